# Varve. Targets: all check lint fuzz bench format install clean
# Options: DEVELOPER=1 (-Werror), SANITIZE=address,undefined or thread,
# COVERAGE=1, BUILD=dir, PREFIX=/usr/local, DESTDIR=

BUILD ?= build
PREFIX ?= /usr/local
CC ?= cc
PKGS = fuse3 libzstd libcrypto jansson libmicrohttpd libarchive libcurl
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
CFLAGS ?= -O2 -g
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -I.
CPPFLAGS += $(shell pkg-config --cflags $(PKGS))
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fno-omit-frame-pointer -pthread -MMD -MP
LDLIBS += $(shell pkg-config --libs $(PKGS)) -lrocksdb -pthread
ifdef DEVELOPER
ALL_CFLAGS += -Werror
endif
ifdef SANITIZE
ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
LDFLAGS += -fsanitize=$(SANITIZE)
endif
ifdef COVERAGE
ALL_CFLAGS += --coverage
LDFLAGS += --coverage
endif

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
STORE = $(call obj,$(wildcard store/*.c store/base/*.c))
FS = $(call obj,$(wildcard fs/*.c))
DAEMON = $(call obj,$(wildcard snapshotd/*.c))
CLI = $(call obj,$(wildcard tools/*.c))
UNIT = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
HELPERS = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/model/*.c tests/integration/*.c tests/perf/*.c))

all: $(BUILD)/bin/snapshotd $(BUILD)/bin/varve

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/libvarve-store.a: $(STORE)
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/libvarve-fs.a: $(FS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/bin/snapshotd: $(DAEMON) $(BUILD)/libvarve-fs.a $(BUILD)/libvarve-store.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/bin/varve: $(CLI) $(BUILD)/libvarve-store.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(BUILD)/libvarve-fs.a $(BUILD)/libvarve-store.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
$(HELPERS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libvarve-fs.a $(BUILD)/libvarve-store.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

unit: $(UNIT)
helpers: $(HELPERS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all unit helpers clean
.SECONDARY:
