# Varve. Targets:
#   all (default)  build/bin/snapshotd, build/bin/varve with build/libexec/varve, build/lib/libvarve.*
#   check          unit tests and the quick integration tests
#   unit helpers   the test programs only (tested-helpers: those that have code of ours to test)
#   lint format    style and layers; rewrite with clang-format
#   fuzz           every fuzzer for FUZZ_SECONDS=30 (FUZZ="name ...": these)
#   coverage       lines of store/ and fs/ that the tests reach
#   bench          measure beside other tools (BENCH=name: one; BENCH_QUICK=1)
#   bench-results  put what that gave into tests/perf/RESULTS.md and the README
#   install uninstall
#   deb npm oci    Debian packages; the TypeScript library; a container image: build/packages
#   clean
# Options: DEVELOPER=1 (-Werror), SANITIZE=address,undefined or thread,
# COVERAGE=1, BUILD=dir (one for each set of options), V=1 (show commands),
# LINKER=gold (or lld: many programs are linked, the usual one takes three times as long),
# PREFIX=/usr/local, DESTDIR=

BUILD ?= build
PREFIX ?= /usr/local
CC ?= cc
OBJCOPY ?= objcopy
PKGS = fuse3 libzstd libcrypto jansson libmicrohttpd libarchive libcurl zlib
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
CFLAGS ?= -O2 -g
# Asked for once, not for every command.
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS := $(shell pkg-config --libs $(PKGS))
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -I. $(PKG_CFLAGS)
COVERAGE_FLAGS =
COUNTED_FLAGS =
TEST_CFLAGS =
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(TEST_CFLAGS) $(COUNTED_FLAGS) -fno-omit-frame-pointer -pthread -MMD -MP
LDLIBS += $(PKG_LIBS) -lrocksdb -pthread
CLIENT_LIBS := $(shell pkg-config --libs jansson libcrypto) -pthread
READER_LIBS := $(shell pkg-config --libs libzstd jansson libcrypto libarchive) -lrocksdb -pthread
LINK_FLAGS = $(if $(LINKER),-fuse-ld=$(LINKER))
ifdef DEVELOPER
ALL_CFLAGS += -Werror
endif
ifdef SANITIZE
ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
# The code of unit tests itself runs little, and compiles in 60 % of the time so.
$(BUILD)/tests/unit/%.o: TEST_CFLAGS = -Og
LDFLAGS += -fsanitize=$(SANITIZE)
endif
ifdef COVERAGE
# Atomic counters make a sanitized build slow (chunking: five times); a lost count of many is none.
COVERAGE_FLAGS = --coverage -fprofile-update=$(if $(SANITIZE),single,atomic)
# Only of what the report is about: a process that ends writes a file for each object that counts,
# which took two thirds of the time of a sanitized varve.
$(BUILD)/store/%.o $(BUILD)/fs/%.o: COUNTED_FLAGS = $(COVERAGE_FLAGS)
endif
ifdef FUZZER # set by `make fuzz`, with CC=clang
ALL_CFLAGS += -fsanitize=fuzzer-no-link -DFUZZING
endif

Q = $(if $(V),,@)
FUZZ_SECONDS ?= 30
FUZZ ?=
COVERAGE_MIN ?= 85

# Objects. main.c, varve.c and varve_store.c hold main() and stay out of the libraries, so that
# unit tests can link what the daemon and the tools are made of.
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
STORE = $(call obj,$(wildcard store/*.c store/*/*.c))
FS = $(call obj,$(wildcard fs/*/*.c))
DAEMON = $(call obj,$(filter-out snapshotd/main.c,$(wildcard snapshotd/*.c snapshotd/*/*.c)))
TOOLS = $(call obj,$(wildcard $(addprefix tools/,cli/*.c commands/*.c inspect/*.c)) tools/libvarve/events.c \
	tools/libvarve/retry.c)
UNIT = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
# Helpers are one file each, tests/x/name.c, or a directory tests/x/name/*.c, which
# makes tests/x/name/name.
HELPER_FILES = $(wildcard tests/model/*.c tests/integration/*.c tests/perf/*.c)
QUICK = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/integration/quick/*.c))
HELPER_DIRS = $(patsubst %/,%,$(sort $(dir $(wildcard tests/model/*/*.c tests/perf/*/*.c))))
HELPERS = $(patsubst %.c,$(BUILD)/%,$(HELPER_FILES))
BIG_HELPERS = $(foreach d,$(HELPER_DIRS),$(BUILD)/$(d)/$(notdir $(d)))
FUZZERS = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
# Of objects those that `make fuzz-programs` found to be needed; their names without rooms.
ifdef NEEDED
needed = $(foreach o,$(1),$(if $(filter $(basename $(notdir $(o))),$(NEEDED)),$(o)))
$(foreach v,STORE FS DAEMON,$(eval $(v) := $(call needed,$($(v)))))
endif
ALL_C = $(wildcard */*.c */*/*.c */*/*/*.c)
ALL_SOURCES = $(ALL_C) $(wildcard */*.h */*/*.h */*/*/*.h)

STORE_A = $(BUILD)/libvarve-store.a
FS_A = $(BUILD)/libvarve-fs.a
DAEMON_A = $(BUILD)/libvarve-daemon.a
TOOLS_A = $(BUILD)/libvarve-tools.a
# Below the build as below PREFIX: varve looks for it beside the directory that it is in itself.
STORE_PROGRAM = libexec/varve/varve-store

# libvarve, for other programs, is made of few sources, compiled to go anywhere.
LIB = $(BUILD)/lib/libvarve
# It counts nothing: others' programs are not to depend on that.
$(BUILD)/pic/%.o $(LIB).so.0: COVERAGE_FLAGS =
LIB_PKGS = libcurl jansson libcrypto
LIB_O = $(patsubst %.c,$(BUILD)/pic/%.o,$(wildcard tools/libvarve/*.c) \
	$(addprefix store/base/,base64.c buf.c error.c hash.c jcs.c))

all: $(BUILD)/bin/snapshotd $(BUILD)/bin/varve $(BUILD)/$(STORE_PROGRAM) $(LIB).so.0 $(LIB).a $(BUILD)/lib/varve.pc

define compile
@mkdir -p $(@D)
@$(if $(V),,echo "  CC    $<")
$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -c -o $@ $<
endef
$(BUILD)/%.o: %.c
	$(compile)
$(BUILD)/pic/%.o: ALL_CFLAGS += -fPIC -fvisibility=hidden
$(BUILD)/pic/%.o: %.c
	$(compile)

# The first process of containers: one static program, which a part of the daemon holds
# (.incbin). It is never instrumented, for it runs without our libraries.
INIT = $(BUILD)/snapshotd/container/init/varve-init
INIT_C = $(wildcard snapshotd/container/init/*.c) fs/host/freeze.c \
	$(addprefix snapshotd/container/,cgroup.c leftovers.c) \
	$(addprefix store/base/,base64.c buf.c error.c utf8.c write_all.c)
$(INIT): $(INIT_C) fs/host/freeze.h \
		$(wildcard $(addsuffix /*.h,snapshotd/container/init snapshotd/container store/base))
	@mkdir -p $(@D)
	@$(if $(V),,echo "  INIT  $@")
	$(Q)$(CC) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -std=gnu11 $(WARN) $(if $(DEVELOPER),-Werror) \
		-Os -ffunction-sections -static -s -Wl,--gc-sections -o $@ $(INIT_C)
$(BUILD)/snapshotd/container/runtime_agent.o: CPPFLAGS += -DVARVE_INIT='"$(INIT)"'
$(BUILD)/snapshotd/container/runtime_agent.o: $(INIT)

# It holds the completion scripts (.incbin).
$(BUILD)/tools/commands/cmd_completion.o: $(wildcard tools/completion/varve.*)
# And the dashboard.
$(BUILD)/snapshotd/api/api_dashboard.o: $(wildcard snapshotd/dashboard/*)

# What --version says beside the version: the commit that this was built from, with its tag. The
# file is touched only when that changes; no library has it, or all of them would be made anew.
COMMIT ?= $(shell git describe --always --tags 2>/dev/null)
COMMIT := $(COMMIT)
COMMIT_FILE := $(BUILD)/commit
ifneq ($(COMMIT),$(shell cat $(COMMIT_FILE) 2>/dev/null))
$(shell mkdir -p $(BUILD) && echo '$(COMMIT)' >$(COMMIT_FILE))
endif
$(COMMIT_FILE):
	@mkdir -p $(@D)
	@echo '$(COMMIT)' >$@
WITH_COMMIT = $(addprefix $(BUILD)/,snapshotd/main.o tools/varve.o)
$(WITH_COMMIT): CPPFLAGS += $(if $(COMMIT),-DVARVE_COMMIT='" ($(COMMIT))"')
$(WITH_COMMIT): $(COMMIT_FILE)

$(STORE_A): $(STORE)
$(FS_A): $(FS)
$(DAEMON_A): $(DAEMON)
$(TOOLS_A): $(TOOLS)
$(BUILD)/libvarve-%.a:
	@mkdir -p $(@D)
	@rm -f $@
	@$(if $(V),,echo "  AR    $@")
	$(Q)$(AR) rcs $@ $^

# A linker touches much new memory; in large pages that takes a third less CPU.
LARGE_PAGES = GLIBC_TUNABLES=glibc.malloc.hugetlb=1
define link
@mkdir -p $(@D)
@$(if $(V),,echo "  LINK  $@")
$(Q)$(LARGE_PAGES) $(CC) $(LINK_FLAGS) $(LDFLAGS) $(COVERAGE_FLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)
endef
$(BUILD)/bin/snapshotd: $(BUILD)/snapshotd/main.o $(DAEMON_A) $(FS_A) $(STORE_A)
	$(link) $(LDLIBS)
# Each with the libraries that it needs: loading those of the other takes longer than most commands.
$(BUILD)/bin/varve: $(BUILD)/tools/varve.o $(TOOLS_A) $(STORE_A)
	$(link) $(CLIENT_LIBS)
$(BUILD)/$(STORE_PROGRAM): $(BUILD)/tools/varve_store.o $(TOOLS_A) $(STORE_A)
	$(link) $(READER_LIBS)

$(LIB).so.0: $(LIB_O) tools/libvarve/varve.map
	$(link) -shared -Wl,-soname,$(@F) -Wl,--version-script=tools/libvarve/varve.map \
		$(shell pkg-config --libs $(LIB_PKGS)) -pthread
	@ln -sf $(@F) $(LIB).so
# One object, in which all names but varve_* are local.
$(LIB).a: $(LIB_O)
	@mkdir -p $(@D)
	@rm -f $@
	@$(if $(V),,echo "  AR    $@")
	$(Q)$(CC) -r -nostdlib -o $(BUILD)/pic/libvarve.o $^
	$(Q)$(OBJCOPY) --localize-hidden $(BUILD)/pic/libvarve.o
	$(Q)$(AR) rcs $@ $(BUILD)/pic/libvarve.o
# `make install` puts the directories in.
$(BUILD)/lib/varve.pc: tools/libvarve/varve.pc.in store/base/version.h
	@mkdir -p $(@D)
	@sed -e 's|@PKGS@|$(LIB_PKGS)|; s|@VERSION@|$(VERSION)|' $< >$@

# A test program links the layers whose headers it includes, and those below. One look at
# all of them says so, as FILE:LAYER.
INCLUDES := $(shell grep -HoE '^.include "(tools/libvarve/varve\.h|(tools|snapshotd|fs)/)' tests/*/*.c | \
	sed 's/:.*"/:/; s|/$$||' | sort -u)
includes = $(filter $(2):$(1),$(INCLUDES))
libs_of = $(if $(call includes,tools/libvarve/varve.h,$(1)),$(LIB).a) \
	$(if $(call includes,tools,$(1)),$(TOOLS_A)) \
	$(if $(call includes,snapshotd,$(1)),$(DAEMON_A) $(FS_A)) \
	$(if $(call includes,fs,$(1)),$(FS_A)) $(STORE_A)
comma := ,
.SECONDEXPANSION:
# A line "wrap: a b" in a test's first comment lets it stand in front of a() and b().
wraps = $(shell sed -n '1,9s|^ \* wrap: ||p' $(1))
$(UNIT): $(BUILD)/%: $(BUILD)/%.o $$(call libs_of,$$*.c)
	$(link) $(addprefix -Wl$(comma)--wrap=,$(call wraps,$*.c)) -lcmocka $(LDLIBS)
$(HELPERS): $(BUILD)/%: $(BUILD)/%.o $$(call libs_of,$$*.c)
	$(link) $(LDLIBS)
$(BIG_HELPERS): $$(call obj,$$(wildcard $$(patsubst $(BUILD)/%/,%,$$(dir $$@))/*.c)) \
		$$(if $$(filter newer,$$(@F)),$(DAEMON_A) $(FS_A)) $(STORE_A)
	$(link) $(LDLIBS)
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $$(call libs_of,$$*.c)
	$(link) -fsanitize=fuzzer $(LDLIBS)

# Tests start these more often than all others: static, and never instrumented.
$(QUICK): $(BUILD)/%: %.c tests/integration/quick/fall_back.h
	@mkdir -p $(@D)
	@$(if $(V),,echo "  QUICK $@")
	$(Q)$(CC) -D_GNU_SOURCE -I. -std=gnu11 $(WARN) $(if $(DEVELOPER),-Werror) -Os -static -s -o $@ $< -ljansson

unit: $(UNIT)
helpers: $(HELPERS) $(BIG_HELPERS) $(QUICK)
tested-helpers: $(filter $(BUILD)/tests/integration/%,$(HELPERS))
fuzz-objects: $(FUZZERS:=.o)
fuzzers: $(if $(FUZZ),$(FUZZ:%=$(BUILD)/tests/fuzz/fuzz_%),$(FUZZERS))

check: all unit helpers
	scripts/tap --timeout 120 --logs $(BUILD)/logs/unit $(UNIT)
	VARVE_BUILD=$(abspath $(BUILD)) tests/integration/run --quick

# Compiled is only what they link, a third of it all: what their objects pull from the archives of
# the usual build. Should clang's objects want more, then all.
FUZZ_MAKE = $(MAKE) BUILD=$(BUILD)/fuzz CC=clang CFLAGS='-O1 -g1' SANITIZE=address,undefined FUZZER=1
fuzz-programs: $(DAEMON_A) $(FS_A) $(STORE_A)
	+$(FUZZ_MAKE) fuzz-objects
	+needed=$$($(LD) -r -z muldefs -M -o $(BUILD)/fuzz/needed.o $(FUZZERS:$(BUILD)/%=$(BUILD)/fuzz/%.o) \
		--start-group $^ --end-group | sed -n 's/.*\.a(\(.*\)\.o)$$/\1/p' | sort -u) && \
	{ $(FUZZ_MAKE) NEEDED="$$needed" fuzzers || { rm -f $(BUILD)/fuzz/*.a; $(FUZZ_MAKE) fuzzers; }; }

fuzz: fuzz-programs
	tests/fuzz/run --seconds $(FUZZ_SECONDS) --build $(BUILD)/fuzz $(FUZZ)

coverage:
	+$(MAKE) BUILD=$(BUILD)/coverage COVERAGE=1 CFLAGS=-O1 all unit helpers
	scripts/coverage --build $(BUILD)/coverage --min $(COVERAGE_MIN)

bench: all helpers
	scripts/deps bench
	VARVE_BUILD=$(abspath $(BUILD)) tests/perf/run $(BENCH)

bench-results:
	VARVE_BUILD=$(abspath $(BUILD)) tests/perf/results

lint:
	scripts/lint $(BUILD)

# One database entry a source file, for clang-tidy and for editors.
$(BUILD)/compile_commands.json: Makefile $(ALL_C)
	@mkdir -p $(@D)
	@{ echo '['; sep=; for f in $(ALL_C); do \
	printf '%s{"directory": "%s", "file": "%s", "arguments": ["cc"' "$$sep" "$(CURDIR)" $$f; \
	for a in $(CPPFLAGS) -std=gnu11 -pthread -c $$f; do printf ', "%s"' "$$a"; done; \
	printf ']}\n'; sep=,; done; echo ']'; } > $@

format:
	clang-format -i $(ALL_SOURCES)

include tools/packaging/install.mk

clean:
	rm -rf $(BUILD)

-include $(patsubst %.c,$(BUILD)/%.d,$(ALL_C)) $(LIB_O:.o=.d)
.PHONY: all unit helpers tested-helpers fuzzers fuzz-objects check fuzz fuzz-programs coverage bench bench-results lint format clean
.SECONDARY:
