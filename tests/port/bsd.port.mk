# What port/Makefile takes from FreeBSD's bsd.port.mk and its USES=cargo, just enough to stage the
# port and to say what its plist comes to. WITH: the options that are on.

DISTNAME?=	${PORTNAME}-${DISTVERSION}
EXTRACT_SUFX?=	.tar.gz

.for variable in PORTNAME DISTVERSION CATEGORIES DISTFILES MAINTAINER COMMENT LICENSE \
    LICENSE_FILE USES USERS GROUPS OPTIONS_DEFINE FLAVOR STAGEDIR WRKSRC
.  if empty(${variable})
.    error ${variable} is missing
.  endif
.endfor
.if ${COMMENT:C/./x/g:C/x{71,}/long/:Mlong} || ${COMMENT:M*.}
.  error COMMENT is too long, or ends in a period
.endif
.if !${FLAVORS:M${FLAVOR}}
.  error there is no flavor ${FLAVOR}
.endif
.if ${USES:Mcargo}
.  include "${.CURDIR}/Makefile.crates"
.  if empty(CARGO_CRATES)
.    error CARGO_CRATES is missing
.  endif
.endif

DOCSDIR?=	${PREFIX}/share/doc/${PORTNAME}
EXAMPLESDIR?=	${PREFIX}/share/examples/${PORTNAME}
PLIST_SUB+=	DOCSDIR="${DOCSDIR:S,^${PREFIX}/,,}" \
		EXAMPLESDIR="${EXAMPLESDIR:S,^${PREFIX}/,,}"

.for option in ${OPTIONS_DEFINE}
.  if ${WITH:M${option}}
PLIST_SUB+=	${option:S/DOCS/PORTDOCS/:S/EXAMPLES/PORTEXAMPLES/}=""
_on+=		${option}
.    for assignment in ${${option}_VARS}
${assignment:C/\+=.*//}+=	${assignment:C/.*\+=//}
.    endfor
.  else
PLIST_SUB+=	${option:S/DOCS/PORTDOCS/:S/EXAMPLES/PORTEXAMPLES/}="@comment "
.  endif
.endfor

stage: do-install
.for step in post-build do-install
.  for option in ${_on}
.    if target(${step}-${option}-on)
stage: ${step}-${option}-on
.    endif
.  endfor
.endfor

plist:
	@sed ${PLIST_SUB:C/^([A-Z]+)=(.*)$/-e 's|%%\1%%|'\2'|'/} pkg-plist

# -V shows no more than this of what others would evaluate.
facts:
	@echo ${PORTNAME}${PKGNAMESUFFIX}${${FLAVOR}_PKGNAMESUFFIX}-${DISTVERSION} ${DISTFILES}
	@echo features ${CARGO_FEATURES}
	@echo conflicts ${${FLAVOR}_CONFLICTS_INSTALL}
	@echo users ${USERS} ${GROUPS}
