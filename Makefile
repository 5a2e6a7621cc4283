# For GNU make and BSD make.

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr/local
MANDIR ?= $(PREFIX)/share/man
DOCSDIR ?= $(PREFIX)/share/doc/postern
EXAMPLESDIR ?= $(PREFIX)/share/examples/postern
# For which system: FreeBSD, Linux.
SYSTEM != uname -s
# Where posternd looks for its configuration.
ETCDIR_FreeBSD = $(PREFIX)/etc
ETCDIR_Linux = /etc
ETCDIR = $(ETCDIR_$(SYSTEM))
# Where cargo leaves the programs.
BUILT ?= $${CARGO_TARGET_DIR:-target}/release

# The programs, for use, and completions for shells.
all: build

build:
	@tests/setup.sh build
	$(CARGO) build --release --locked
	@$(BUILT)/postern-completions $(BUILT)/completions

# Completions for bash, zsh and fish beside programs that are built already; they must run here.
completions:
	$(BUILT)/postern-completions $(BUILT)/completions

# Shows the main job live: a guarded port, a knock, an opening, its end. As root on Linux with
# real packets between two network namespaces; otherwise from a capture that comes with it.
demo:
	@tests/setup.sh build test
	$(CARGO) build --release --locked
	@tests/demo.sh $(BUILT)

# The rooms that decide, timed by themselves and with their instructions counted; then ours, Debian's
# knockd and fwknopd, and tcpdump as the floor, side by side under real packets. As root on Linux,
# half an hour. Writes benches/RESULTS.md. Nothing else should run meanwhile.
# BENCH: of the latter only that whose name has all these words; then nothing is written.
bench:
	@tests/setup.sh build bench
	@benches/run.sh $(BENCH)

# Real packets alone, with less of everything, in three minutes. Writes nothing.
bench-quick:
	@tests/setup.sh build bench
	@benches/run.sh --quick $(BENCH)

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

# postern.exe, the client for 64-bit Windows, on Debian 12: where it is stands on the last line.
windows:
	@tests/cross/windows.sh build

# Lints and builds postern.exe, and knocks with it, run by wine, at a posternd. As root.
test-windows:
	@tests/cross/windows.sh clippy build test

# Fuzzes what reads others' bytes: FUZZ_SECONDS (30) for each of FUZZ_TARGETS (those in
# fuzz/targets), beginning where the last run ended.
fuzz:
	@tests/setup.sh build fuzz
	@tests/fuzz.sh

# All that there is, for this system. Run make first. The port takes the same targets, some of
# them by its options.
install: install-base install-completions install-docs install-examples

# Programs, manual pages, samples, and what starts the daemon.
install-base: install-$(SYSTEM)
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
	install -m 600 etc/postern.toml.sample $(DESTDIR)$(ETCDIR)

install-FreeBSD:
	install -d -m 755 $(DESTDIR)$(PREFIX)/etc/rc.d $(DESTDIR)$(PREFIX)/etc/newsyslog.conf.d
	$(IN_PREFIX) rc.d/posternd.in >$(DESTDIR)$(PREFIX)/etc/rc.d/posternd
	chmod 555 $(DESTDIR)$(PREFIX)/etc/rc.d/posternd
	install -m 644 etc/newsyslog.conf $(DESTDIR)$(PREFIX)/etc/newsyslog.conf.d/postern.conf.sample

install-Linux:
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/systemd/system
	$(IN_PREFIX) etc/postern.service.in >$(DESTDIR)$(PREFIX)/lib/systemd/system/postern.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/postern.service

IN_PREFIX = sed -e 's|%%PREFIX%%|$(PREFIX)|g'

# What `make completions` has made.
install-completions:
	install -d -m 755 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	for program in postern posternctl posternd; do \
	    install -m 644 $(BUILT)/completions/$$program.bash \
	        $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program && \
	    install -m 644 $(BUILT)/completions/_$$program \
	        $(DESTDIR)$(PREFIX)/share/zsh/site-functions && \
	    install -m 644 $(BUILT)/completions/$$program.fish \
	        $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d || exit; \
	done

install-docs:
	install -d -m 755 $(DESTDIR)$(DOCSDIR)
	install -m 644 README.md SECURITY.md $(DESTDIR)$(DOCSDIR)

install-examples:
	install -d -m 755 $(DESTDIR)$(EXAMPLESDIR)
	install -m 644 etc/rc.firewall etc/pf.conf $(DESTDIR)$(EXAMPLESDIR)

# The names of knockd's programs, and on FreeBSD what starts knockd; not part of install.
install-knockd: install-knockd-$(SYSTEM)
	install -d -m 755 $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin
	ln -sf posternd $(DESTDIR)$(PREFIX)/sbin/knockd
	ln -sf postern $(DESTDIR)$(PREFIX)/bin/knock

install-knockd-FreeBSD:
	install -d -m 755 $(DESTDIR)$(PREFIX)/etc/rc.d
	$(IN_PREFIX) rc.d/knockd.in >$(DESTDIR)$(PREFIX)/etc/rc.d/knockd
	chmod 555 $(DESTDIR)$(PREFIX)/etc/rc.d/knockd

install-knockd-Linux:

# The distfile, and the line that port/distinfo would have for it.
dist:
	@tests/port/dist.sh

# port/Makefile.crates and port/distinfo, from Cargo.lock.
crates:
	@tests/port/crates.sh

# Everything that was made.
clean:
	$(CARGO) clean

.PHONY: all build completions demo bench bench-quick test lint freebsd windows test-windows fuzz install \
    install-base install-FreeBSD install-Linux install-completions install-docs install-examples install-knockd \
    install-knockd-FreeBSD install-knockd-Linux dist crates clean
