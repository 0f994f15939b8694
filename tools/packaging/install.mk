# What `make install` puts where, and `make uninstall` takes away again. Part of the Makefile.
#   PREFIX=/usr/local  DESTDIR=
#   LIBDIR    libraries: PREFIX/lib
#   SBINDIR   helpers of mount(8), which looks for them in /sbin alone
#   CONFDIR   configuration, which is never overwritten, nor removed
#   UNITDIR   units of systemd
#   PYTHONDIR the Python library: a directory below PREFIX where python3 looks, if there is one

VERSION := $(shell sed -n 's/.*VARVE_VERSION "\(.*\)"/\1/p' store/base/version.h)
LIBDIR ?= $(PREFIX)/lib
# Beside PREFIX, where that is one of the system's own.
usual = $(filter /usr /usr/local,$(PREFIX))
SBINDIR ?= $(if $(usual),,$(PREFIX))/sbin
CONFDIR ?= $(if $(usual),,$(PREFIX))/etc/varve
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),,$(PREFIX))/lib/systemd/system
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
# Asked for when it is needed: this starts python.
PYTHONDIR ?= $(or $(shell $(PYTHON) -c 'import site, sys; print(*[p for p in site.getsitepackages() \
	if p.startswith(sys.argv[1] + "/lib/")][:1])' $(PREFIX) 2>/dev/null),$(PREFIX)/lib/python3/dist-packages)

# MODE:SOURCE:TARGET each.
in_dir = $(foreach f,$(3),$(1):$(f):$(2)/$(notdir $(f)))
INSTALLED = $(call in_dir,755,$(PREFIX)/bin,$(BUILD)/bin/snapshotd $(BUILD)/bin/varve) \
	755:$(BUILD)/$(STORE_PROGRAM):$(PREFIX)/$(STORE_PROGRAM) \
	$(call in_dir,644,$(LIBDIR),$(LIB).so.0 $(LIB).a) \
	$(call in_dir,644,$(LIBDIR)/pkgconfig,$(BUILD)/lib/varve.pc) \
	$(call in_dir,644,$(PREFIX)/include,tools/libvarve/varve.h) \
	$(foreach s,1 3 5 7 8,$(call in_dir,644,$(PREFIX)/share/man/man$(s),$(wildcard tools/man/*.$(s)))) \
	$(call in_dir,644,$(PREFIX)/share/varve/monitoring,tools/monitoring/grafana.json tools/monitoring/alerts.yml) \
	$(call in_dir,644,$(PREFIX)/share/varve/templates,$(wildcard tools/templates/*.json)) \
	$(call in_dir,644,$(UNITDIR),$(UNITS:%=$(BUILD)/lib/systemd/%)) \
	644:tools/packaging/systemd/varve.sysusers:$(PREFIX)/lib/sysusers.d/varve.conf \
	644:tools/packaging/systemd/varve.tmpfiles:$(PREFIX)/lib/tmpfiles.d/varve.conf \
	644:tools/packaging/systemd/varve.needrestart:$(CONFDIR:%/varve=%)/needrestart/conf.d/varve.conf \
	644:tools/packaging/snapshotd.example.json:$(PREFIX)/share/doc/varve/examples/snapshotd.json \
	644:tools/completion/varve.bash:$(PREFIX)/share/bash-completion/completions/varve \
	644:tools/completion/varve.zsh:$(PREFIX)/share/zsh/site-functions/_varve \
	644:tools/completion/varve.fish:$(PREFIX)/share/fish/vendor_completions.d/varve.fish \
	$(call in_dir,644,$(1)/varve,$(wildcard tools/sdk/python/varve/*.py tools/sdk/python/varve/py.typed)) \
	644:$(BUILD)/lib/python/METADATA:$(1)/varve-$(VERSION).dist-info/METADATA
LINKS = libvarve.so.0:$(LIBDIR)/libvarve.so \
	$(foreach h,mount.varve mount.fuse.varve umount.fuse.varve,$(PREFIX)/bin/varve:$(SBINDIR)/$(h))
# Directories that nobody else uses.
OWN_DIRS = $(PREFIX)/share/doc/varve/examples $(PREFIX)/share/doc/varve $(1)/varve $(1)/varve-$(VERSION).dist-info $(PREFIX)/libexec/varve \
	$(PREFIX)/share/varve/templates $(PREFIX)/share/varve/monitoring $(PREFIX)/share/varve

# So that pip and importlib.metadata know of it.
$(BUILD)/lib/python/METADATA: store/base/version.h tools/packaging/install.mk
	@mkdir -p $(@D)
	@printf 'Metadata-Version: 2.1\nName: varve\nVersion: %s\nSummary: %s\nLicense: MIT\n' '$(VERSION)' \
		'Images in code, sandboxes and snapshots of a Varve daemon' >$@

UNITS = $(patsubst %.in,%,$(notdir $(wildcard tools/packaging/systemd/*.service.in \
	tools/packaging/systemd/*.socket tools/packaging/systemd/*.timer)))
$(BUILD)/lib/systemd/%: tools/packaging/systemd/%.in
	@mkdir -p $(@D)
	@cp $< $@
$(BUILD)/lib/systemd/%: tools/packaging/systemd/%
	@mkdir -p $(@D)
	@cp $< $@

# Programs with -lvarve start from now on, or do no more.
tell_loader = [ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

# The group of the socket that snapshotd.json names.
make_group = [ -n "$(DESTDIR)" ] || [ -z "$(usual)" ] || [ "$$(id -u)" != 0 ] || \
	! command -v systemd-sysusers >/dev/null || systemd-sysusers $(PREFIX)/lib/sysusers.d/varve.conf

# What `systemctl enable` has made, and what it has started, is not ours to end.
tell_enabled = set -e; for u in $(UNITS); do for l in "$(DESTDIR)"/etc/systemd/system/*.wants/$$u; do \
	[ ! -L "$$l" ] || units="$$units $$u"; done; done; \
	[ -z "$$units" ] || echo "still enabled, and perhaps running: systemctl disable --now$$units"

install: all $(BUILD)/lib/python/METADATA $(UNITS:%=$(BUILD)/lib/systemd/%)
	set -e; python=$(PYTHONDIR); \
	for f in $(call INSTALLED,$$python); do to=$${f##*:} from=$${f#*:}; \
	install -D -m $${f%%:*} $${from%:*} "$(DESTDIR)$$to"; done
	sed -i 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|' $(DESTDIR)$(LIBDIR)/pkgconfig/varve.pc
	sed -i 's|@BINDIR@|$(PREFIX)/bin|' $(addprefix $(DESTDIR)$(UNITDIR)/,$(filter %.service,$(UNITS)))
	set -e; for l in $(LINKS); do mkdir -p "$(DESTDIR)$$(dirname "$${l#*:}")"; \
	ln -sf "$${l%:*}" "$(DESTDIR)$${l#*:}"; done
	[ -e "$(DESTDIR)$(CONFDIR)/snapshotd.json" ] || \
	install -D -m 644 -t $(DESTDIR)$(CONFDIR) tools/packaging/snapshotd.json
	$(tell_loader)
	$(make_group)

uninstall:
	set -e; python=$(PYTHONDIR); \
	for f in $(call INSTALLED,$$python); do rm -f "$(DESTDIR)$${f##*:}"; done; \
	for l in $(LINKS); do rm -f "$(DESTDIR)$${l#*:}"; done; \
	rm -rf "$(DESTDIR)$$python/varve/__pycache__"; \
	for d in $(call OWN_DIRS,$$python); do \
	[ ! -d "$(DESTDIR)$$d" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$$d"; done
	$(tell_loader)
	@$(tell_enabled)

# Debian packages, and the TypeScript library as npm takes it, in build/packages. VARVE_PREBUILT=build:
# of what is built there.
deb:
	tools/packaging/build-deb $(BUILD)/packages
npm:
	tools/packaging/build-npm $(BUILD)/packages

# A container image of the daemon, as an OCI layout.
oci: all
	VARVE_REPLACE=1 VARVE_BIN=$(BUILD)/bin tools/packaging/build-oci $(BUILD)/packages/varve.oci

.PHONY: install uninstall deb npm oci
