# For GNU make and BSD make.

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr/local
MANDIR ?= $(PREFIX)/share/man
ETCDIR ?= $(PREFIX)/etc
# Where cargo leaves the programs.
BUILT ?= $${CARGO_TARGET_DIR:-target}/release

# The programs, for use.
all: build

build:
	@tests/setup.sh build
	$(CARGO) build --release --locked

# Shows the main job live: a guarded port, a knock, an opening, its end. As root on Linux with
# real packets between two network namespaces; otherwise from a capture that comes with it.
demo:
	@tests/setup.sh build test
	$(CARGO) build --release --locked
	@tests/demo.sh $(BUILT)

# Every test that can run here. The end-to-end tests need root, on Linux or FreeBSD.
test:
	@tests/setup.sh build test
	@tests/run.sh

# Formatting, compiler and clippy warnings as errors, documentation, shell scripts, manual pages.
lint:
	@tests/setup.sh build lint
	@tests/lint.sh

# Checks, lints and links for FreeBSD, on Debian 12.
freebsd:
	@tests/cross/freebsd.sh

# Fuzzes what reads others' bytes: FUZZ_SECONDS (30) for each of FUZZ_TARGETS (those in
# fuzz/targets), beginning where the last run ended.
fuzz:
	@tests/setup.sh build fuzz
	@tests/fuzz.sh

# Programs, manual pages and the sample configuration. Run make first.
install:
	install -d -m 755 $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin \
	    $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7 \
	    $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(ETCDIR)
	install -m 755 $(BUILT)/posternd $(BUILT)/posternctl $(DESTDIR)$(PREFIX)/sbin
	install -m 755 $(BUILT)/postern $(DESTDIR)$(PREFIX)/bin
	install -m 644 man/postern.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 man/postern.toml.5 $(DESTDIR)$(MANDIR)/man5
	install -m 644 man/postern-ipfw.7 man/postern-knockd.7 man/postern-nft.7 man/postern-pf.7 \
	    $(DESTDIR)$(MANDIR)/man7
	install -m 644 man/posternd.8 man/posternctl.8 $(DESTDIR)$(MANDIR)/man8
	install -m 644 etc/postern.toml.sample $(DESTDIR)$(ETCDIR)

# Everything that was made.
clean:
	$(CARGO) clean

.PHONY: all build demo test lint freebsd fuzz install clean
