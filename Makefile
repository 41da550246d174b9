# praxlua: the build and everything around it.
#
#   make              the executable build/praxlua and, for a stock lua5.4, the module
#                     build/lib/praxlua/core.so, made from the same objects
#   make demo         an upgrade before your eyes
#   make test         every check there is; ends with "N passed, N failed, N skipped"
#   make unit         spec/unit alone; likewise integration, lint, rock and docs
#   make spec         one spec: NAME=unit/undo, FILTER= a pattern of the names of its tests
#   make fuzz         every parser under libFuzzer (clang); TARGET=, SECONDS_EACH=600, JOBS=
#   make replay       the inputs it found and mutations of them, in seconds, without clang
#   make asan         the specs under AddressSanitizer and UndefinedBehaviorSanitizer
#   make coverage     tests and line coverage of each module, Lua and C
#   make bench        what things cost, each beside something to compare it with
#   make faults       kills, errors and power cuts at every step; FAMILY=, CASE=, SHARE=, SEED=
#   make corpus       upgrades between all releases of the real content, judged by git; CASE=, SHARE=
#   make sandbox      hostile phases against the sandbox; CASE=, GROUP=, DEFENCE=, SHARE=, SEED=
#   make node-servers servers from npm for the tests, in build/node
#   make dialogues    10,000 hostile dialogues with the MCP client; SEED=, CASE=, COUNT=, SHARE=
#   make dogfood      upgrades of a real source repository, its own server in a real environment, and
#                     a browser; PRAXLUA_DOGFOOD_SOURCE=a clone, PRAXLUA_DOGFOOD_WHEELS=a folder
#   make doctor       what this machine offers praxlua
#   make docs-api     writes docs/phase-api.md and the annotations of phases from the code
#   make deps         installs what the build needs; test-deps: and what the tests need;
#                     dogfood-deps: and the browser for "make dogfood"
#   make install      under PREFIX (/usr/local), below DESTDIR where that is set
#   make clean        removes build/
#
# Nothing is written outside B (build/) except by install and deps. V=1 shows the commands.

B ?= build
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LUADIR ?= $(PREFIX)/share/lua/5.4
LIBDIR ?= $(PREFIX)/lib/lua/5.4
LUA ?= lua5.4
JOBS ?= $(shell nproc)
CFLAGS ?= -O2 -g
ifeq ($(origin CC),default)
CC := gcc
endif
ifndef V
.SILENT:
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Packages, by their Debian names: for the build and the demo, and for the tests.
DEPS := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev lua-filesystem-dev lua-cjson-dev \
  lua-argparse libuv1-dev libarchive-dev libssl-dev libcurl4-openssl-dev libseccomp-dev git \
  python3 python3-venv
TEST_DEPS := lua-busted lua-check luarocks cppcheck clang-format zstd strace tmux \
  procps python3-pip python3-watchdog e2fsprogs xfsprogs
# Node comes from elsewhere as often as not; Debian's is taken where there is none.
TEST_DEPS += $(if $(shell command -v node),,nodejs) $(if $(shell command -v npm),,npm)
DOGFOOD_DEPS := $(if $(shell command -v chromium),,chromium)

# Libraries -------------------------------------------------------------------------------------

# Asked for at their first use, so that "make deps" works where pkg-config is still missing.
once = $(eval $(1) := $(2))$($(1))
from_pkg_config = $(shell pkg-config $(1))$(if $(filter-out 0,$(.SHELLSTATUS)),$(error \
  a library is missing; "make deps" installs what the build needs))
PACKAGES := libcrypto libuv libarchive libseccomp
PKG_CFLAGS = $(call once,PKG_CFLAGS,$(call from_pkg_config,--cflags lua5.4 $(PACKAGES)))
PKG_LIBS = $(call once,PKG_LIBS,$(call from_pkg_config,--libs $(PACKAGES)))

# The executable carries Lua and its two C modules in itself where there is a static library
# (Debian), and links the shared one elsewhere.
comma := ,
library = $(or $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a)),$(call \
  from_pkg_config,--libs $(1)))
LUA_LIBS = $(call once,LUA_LIBS,$(foreach l,lua5.4-filesystem lua5.4-cjson lua5.4,$(call \
  library,$(l))))

# Variants of the build, each in a directory of its own: SANITIZE=address,undefined or COVERAGE=1 or
# STRICT=1.
FLAGS = -std=c11 -Wall -Wextra -Wshadow -Wpedantic -fPIC -fstack-protector-strong -pthread \
  -D_FILE_OFFSET_BITS=64 -I$(B)/generated -Iruntime $(PKG_CFLAGS) $(VARIANT_FLAGS)
ifdef SANITIZE
VARIANT_FLAGS += -O1 -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif
ifdef COVERAGE
VARIANT_FLAGS += -O0 --coverage -DPRAXLUA_COVERAGE
endif
ifdef STRICT
VARIANT_FLAGS += -Werror -Wmissing-prototypes -Wstrict-prototypes \
  -Wold-style-definition -Wundef -include $(B)/generated/openers.h
endif

# What is built ---------------------------------------------------------------------------------

# The primitives, in the order of DESIGN's picture; each is runtime/NAME.c.
PRIMITIVES := hash tree file root lock system cancel spawn foreground archive http transaction worker
ifdef COVERAGE
PRIMITIVES += coverage
endif
# Only in the executable. Every other file of runtime/ is shared by the primitives.
HOST := main
SHARED := $(filter-out $(PRIMITIVES) $(HOST) coverage,$(patsubst \
  runtime/%.c,%,$(wildcard runtime/*.c)))
OBJECTS := $(patsubst %,$(B)/objects/%.o,$(PRIMITIVES) $(SHARED))
HOST_OBJECTS := $(HOST:%=$(B)/objects/%.o) $(B)/objects/embedded.o
ifdef SANITIZE
HOST_OBJECTS += $(B)/objects/sanitizer.o
endif

EXECUTABLE := $(B)/praxlua
MODULE := $(B)/lib/praxlua/core.so
# Less the annotations for editors, which nothing loads.
LUA_FILES := $(shell find lua phases -name '*.lua' -not -path 'lua/praxlua/meta/*')

.PHONY: all module objects clean install
all: $(EXECUTABLE) $(MODULE) $(if $(SANITIZE),$(B)/bin/lua5.4)
module: $(MODULE)
objects: $(OBJECTS) $(HOST_OBJECTS)

clean:
	rm -rf $(B)

install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/praxlua
	install -m 755 $(EXECUTABLE) $(DESTDIR)$(BINDIR)/praxlua
	install -m 755 $(MODULE) $(DESTDIR)$(LIBDIR)/praxlua/core.so
	cd lua && find praxlua -name '*.lua' \
	  -exec install -D -m 644 {} $(abspath $(DESTDIR)$(LUADIR))/{} \;
	install -D -m 644 -t $(DESTDIR)$(LUADIR)/praxlua/phases phases/*.lua

# Generated files are replaced only when they change, so that nothing is compiled in vain.
replace = { cmp -s $@.new $@ || mv $@.new $@; rm -f $@.new; }

.PHONY: FORCE
FORCE:

# How the objects were compiled: another way compiles them anew.
$(B)/generated/flags: FORCE
	mkdir -p $(@D)
	echo '$(CC) $(CFLAGS) $(FLAGS)' > $@.new && $(replace)

$(B)/generated/primitives.h: FORCE
	mkdir -p $(@D)
	printf 'X(%s)\n' $(PRIMITIVES) > $@.new && $(replace)

$(B)/generated/openers.h: $(B)/generated/primitives.h
	sed 's/X(\(.*\))/int luaopen_praxlua_\1(struct lua_State *L);/; 1i struct lua_State;' $< > $@

$(B)/generated/embedded.list: FORCE
	mkdir -p $(@D)
	printf '%s\n' $(sort $(LUA_FILES)) > $@.new && $(replace)

argparse = $(shell $(LUA) -e 'io.write(package.searchpath("argparse", package.path) or "")')
$(B)/generated/embedded.c: runtime/embed.lua $(B)/generated/embedded.list $(LUA_FILES)
	$(LUA) runtime/embed.lua $@ $(foreach f,$(LUA_FILES),$(f)=$(f)) lua/argparse.lua=$(argparse)

compile = mkdir -p $(@D) && $(CC) $(CFLAGS) $(FLAGS) -MMD -MP -c -o $@ $<

GENERATED := $(B)/generated/primitives.h $(if $(STRICT),$(B)/generated/openers.h)
$(B)/objects/%.o: runtime/%.c $(B)/generated/flags | $(GENERATED)
	echo "CC $<"
	$(compile)

$(B)/objects/core.o: $(B)/generated/primitives.h

# The standard promises string literals of 4095 bytes; every compiler takes a file.
$(B)/objects/embedded.o: $(B)/generated/embedded.c $(B)/generated/flags
	echo "CC $<"
	$(compile) -Wno-overlength-strings

$(EXECUTABLE): $(HOST_OBJECTS) $(OBJECTS)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(PKG_LIBS) -lm -ldl

# The module shows one symbol to the process that loads it, and stays in it: libuv's handler of SIGCHLD
# may be called after Lua has closed everything, when a child ends just then.
$(MODULE): $(OBJECTS)
	mkdir -p $(@D)
	echo "LD $@"
	printf '{ global: luaopen_praxlua_core; local: *; };\n' > $(B)/generated/core.map
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -shared -Wl,-z,nodelete \
	  -Wl,--version-script=$(B)/generated/core.map -o $@ $^ $(PKG_LIBS) -ldl

# A Lua interpreter that carries the sanitizers' runtime; named lua5.4 so that a spec that starts
# "lua5.4" gets it as well.
$(B)/bin/lua5.4: spec/support/lua.c $(B)/objects/sanitizer.o
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -rdynamic -o $@ $^ $(call library,lua5.4) -lm -ldl

$(B)/objects/sanitizer.o: spec/support/sanitizer.c $(B)/generated/flags
	echo "CC $<"
	$(compile) -DREPORT='"$(abspath $(B))/report"'

-include $(wildcard $(B)/objects/*.d)

.PHONY: demo doctor
demo: deps
	$(MAKE) -j$(JOBS) all
	$(with_build) $(LUA) spec/support/demo.lua

doctor: all
	$(EXECUTABLE) doctor

# Checks ----------------------------------------------------------------------------------------

# The runner builds what a stage needs by calling make again. STAGES are run in this order; the rock
# is built and tried by a spec of integration/ too, so "make test" has no stage for it.
STAGES := lint unit integration sandbox faults corpus asan replay docs
run_stages = B=$(B) LUA=$(LUA) JOBS=$(JOBS) $(LUA) spec/support/test.lua
.PHONY: test coverage rock spec $(STAGES)
test: test-deps
	$(MAKE) -j$(JOBS) all fault-tools sandbox-tools node-servers
	$(run_stages) $(STAGES)

$(filter-out faults sandbox corpus,$(STAGES)) rock:
	$(MAKE) -j$(JOBS) all fault-tools
	$(run_stages) $@

coverage:
	$(run_stages) coverage

# What runs Lua beside the product: the work tree's Lua, this build's module and executable.
with_build = env -u PRAXLUA_PATH LUA_PATH='./?.lua;lua/?.lua;lua/?/init.lua;;' \
  LUA_CPATH='$(abspath $(B))/lib/?.so;;' PRAXLUA_HOST='$(abspath $(EXECUTABLE))' B='$(B)' LUA=$(LUA) \
  XDG_CACHE_HOME='$(abspath $(B))/cache'

FILTER ?=
spec:
	$(MAKE) -j$(JOBS) all fault-tools
	$(with_build) $(LUA) spec/support/busted.lua $(if $(FILTER),--filter='$(FILTER)') \
	  spec/$(NAME)_spec.lua

# Upgrades of a real source repository, which PRAXLUA_DOGFOOD_SOURCE names; then servers that others
# wrote, with a real browser.
.PHONY: dogfood
dogfood: dogfood-deps
	$(MAKE) -j$(JOBS) all node-servers
	$(with_build) $(LUA) spec/dogfood/driver.lua
	$(with_build) $(LUA) spec/dogfood/server.lua
	$(with_build) DEMAND_SERVERS=1 $(LUA) spec/support/busted.lua spec/integration/node_servers_spec.lua

# What is written from lua/praxlua/verbs/reference.lua; lint tells when it is stale.
.PHONY: docs-api
docs-api: $(MODULE)
	mkdir -p lua/praxlua/meta
	$(with_build) $(LUA) spec/support/api.lua

# The fault campaigns, and $(B)/reliability.json. FAMILY is one or some of spec/faults/families, CASE one
# case, SHARE is full, sample (as in "make test") or all, SCRATCH the folder to work in.
SHARE ?= full
SEED ?= 1
faults:
	$(MAKE) -j$(JOBS) all fault-tools
	$(with_build) JOBS=$(JOBS) FAMILY='$(FAMILY)' CASE='$(CASE)' SHARE=$(SHARE) SEED=$(SEED) \
	  SCRATCH='$(SCRATCH)' $(LUA) spec/faults/main.lua

# The hostile phases of spec/sandbox, and $(B)/sandbox.json. CASE is one of them ("upgrade:" and its
# id: inside an upgrade), GROUP one group, DEFENCE one defence, PART cases, defending or upgrade.
sandbox:
	$(MAKE) -j$(JOBS) all fault-tools sandbox-tools
	$(with_build) JOBS=$(JOBS) GROUP='$(GROUP)' CASE='$(CASE)' DEFENCE='$(DEFENCE)' PART='$(PART)' \
	  SHARE=$(SHARE) SEED=$(SEED) $(LUA) spec/sandbox/main.lua

# Hostile dialogues with the MCP client, and $(B)/dialogues.json. CASE is the number of one, COUNT how
# many there are, SHARE full or sample. glibc gives large blocks back at once, so that memory which is
# still there is memory that is held.
.PHONY: dialogues
dialogues:
	$(MAKE) -j$(JOBS) all fault-tools
	$(with_build) CASE='$(CASE)' COUNT='$(COUNT)' SHARE=$(SHARE) SEED=$(SEED) \
	  MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072 $(LUA) spec/dialogues/main.lua

# The merge corpus of spec/corpus, and $(B)/corpus.json. CASE is one pair of releases, "older-newer".
corpus:
	$(MAKE) -j$(JOBS) all
	$(with_build) JOBS=$(JOBS) CASE='$(CASE)' SHARE=$(SHARE) SEED=$(SEED) KEEP='$(KEEP)' \
	  $(LUA) spec/corpus/main.lua

# The tools of spec/faults, which are no part of the product; each is built of what it depends on,
# and never with sanitizers: a leak checker, for one, does not work in what is traced.
FAULT_TOOLS := $(patsubst %,$(B)/faults/%,tracer actor volume flips)
.PHONY: fault-tools
fault-tools: $(FAULT_TOOLS)
$(B)/faults/tracer: $(patsubst %,spec/faults/%,tracer.c mutating.c mutating.h)
$(B)/faults/actor: spec/faults/actor.c
$(B)/faults/volume: spec/faults/volume.c
$(B)/faults/flips: spec/faults/flips.c $(patsubst %,runtime/%.c,journal_read payload digest)
$(FAULT_TOOLS): $(B)/generated/flags | $(GENERATED)
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(filter-out -fsanitize=% --coverage,$(FLAGS)) $(LDFLAGS) -o $@ $(filter %.c,$^) \
	  $(if $(filter runtime/%,$^),$(PKG_LIBS))

# The peer of the hostile dialogues, likewise.
DIALOGUE_TOOLS := $(B)/dialogues/peer
fault-tools: $(DIALOGUE_TOOLS)
$(DIALOGUE_TOOLS): spec/dialogues/peer.c $(B)/generated/flags
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(filter-out -fsanitize=% --coverage,$(FLAGS)) $(LDFLAGS) -o $@ $<

# What lets allocations fail: a library to preload, and in a build with sanitizers a praxlua of which
# our own code, Lua and its modules ask it first.
ALLOCATION := $(B)/faults/allocation.so $(if $(SANITIZE),$(B)/faults/praxlua-allocation)
fault-tools: $(ALLOCATION)
$(B)/faults/allocation.so: spec/faults/allocation.c $(B)/generated/flags | $(GENERATED)
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(filter-out -fsanitize=% --coverage,$(FLAGS)) $(LDFLAGS) -shared -o $@ $<
$(B)/faults/praxlua-allocation: spec/faults/allocation.c $(HOST_OBJECTS) $(OBJECTS)
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -DALLOCATION_WRAPPED -o $@ $^ $(LUA_LIBS) $(PKG_LIBS) \
	  -lm -ldl $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc strdup)

# What the hostile phases of spec/sandbox are run by, beside the product: a praxlua whose workers go
# without the layers of the kernel, and one whose scripts can make system calls.
SANDBOX_TOOLS := $(patsubst %,$(B)/sandbox/praxlua-%,unconfined raw)
.PHONY: sandbox-tools
fault-tools sandbox-tools: $(SANDBOX_TOOLS)
$(B)/sandbox/praxlua-unconfined: WRAPPED := filter_worker landlock_worker
$(B)/sandbox/praxlua-raw: WRAPPED := globals_open
$(B)/sandbox/praxlua-%: spec/sandbox/%.c $(HOST_OBJECTS) $(OBJECTS)
	mkdir -p $(@D)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(PKG_LIBS) -lm -ldl \
	  $(patsubst %,-Wl$(comma)--wrap=%,$(WRAPPED))

# What things cost, beside something that is run in turns with it; and $(B)/bench.json.
.PHONY: bench
bench:
	$(MAKE) -j$(JOBS) all $(B)/bench/bare $(B)/bench/round
	$(with_build) $(LUA) spec/bench/main.lua
$(B)/bench/%: spec/bench/%.c $(B)/generated/flags
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -o $@ $<

# Fuzzing. One program for all targets of spec/faults/fuzz: "fuzzer", by clang with libFuzzer, and
# "replay", by any compiler, which runs the committed inputs (a stage of "make test"). frame.c takes
# worker.c into itself.
FUZZ := $(B)/faults/fuzz
FUZZ_OBJECTS := $(patsubst spec/faults/fuzz/%.c,$(FUZZ)/%.o,$(wildcard spec/faults/fuzz/*.c))
FUZZ_PARTS := $(filter-out $(FUZZ)/replay.o,$(FUZZ_OBJECTS)) $(B)/objects/embedded.o \
  $(filter-out $(B)/objects/worker.o,$(OBJECTS))
FUZZ_LIBS = $(LUA_LIBS) $(PKG_LIBS) -lm -ldl
$(FUZZ)/%.o: spec/faults/fuzz/%.c $(B)/generated/flags | $(GENERATED)
	echo "CC $<"
	$(compile)
$(FUZZ)/replay: $(FUZZ)/replay.o $(FUZZ_PARTS)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) $(LDFLAGS) -o $@ $^ $(FUZZ_LIBS)
$(FUZZ)/fuzzer: $(FUZZ_PARTS)
	echo "LD $@"
	$(CC) $(CFLAGS) $(FLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(FUZZ_LIBS)
-include $(wildcard $(FUZZ)/*.d)

.PHONY: fuzz
TARGET ?=
SECONDS_EACH ?= 600
fuzz:
	command -v clang > /dev/null || { echo "make fuzz needs clang and its libFuzzer" \
	  "(Debian: clang, libclang-rt-dev)"; exit 1; }
	$(MAKE) -j$(JOBS) B=$(B)/fuzz CC=clang SANITIZE=address,undefined,fuzzer-no-link \
	  $(B)/fuzz/faults/fuzz/fuzzer
	JOBS=$(JOBS) $(LUA) spec/faults/fuzz/run.lua $(B)/fuzz/faults/fuzz $(SECONDS_EACH) $(TARGET)

# Servers from npm, which integration/node_servers_spec.lua starts: exact versions, in build/node, and
# installed anew only when the lock file changes. Without them that spec fails.
NODE_SERVERS ?= $(abspath $(B))/node
export NODE_SERVERS
NODE_FILES := package.json package-lock.json .npmrc serve.mjs
.PHONY: node-servers
node-servers: $(NODE_SERVERS)/installed
$(NODE_SERVERS)/installed: $(NODE_FILES:%=spec/fixtures/node/%)
	mkdir -p $(@D)
	cp $^ $(@D)
	if cmp -s $(@D)/package-lock.json $@; then touch $@; else \
	  echo "installing servers from npm in $(@D)"; \
	  if (cd $(@D) && npm ci --no-progress) > $(@D)/npm.log 2>&1; then cp $(@D)/package-lock.json $@; \
	  else rm -f $@; echo "no servers from npm: npm ci failed; the spec that needs them fails."; \
	    tail -n 5 $(@D)/npm.log; echo "  The whole log: $(@D)/npm.log"; fi; fi

# Dependencies ----------------------------------------------------------------------------------

.PHONY: deps test-deps dogfood-deps
deps: WANTED := $(DEPS)
test-deps: WANTED := $(DEPS) $(TEST_DEPS)
dogfood-deps: WANTED := $(DEPS) $(TEST_DEPS) $(DOGFOOD_DEPS)
deps test-deps dogfood-deps:
	if ! command -v apt-get > /dev/null; then \
	  echo "this is no Debian: see to it that these are installed: $(WANTED)"; exit 0; fi; \
	missing=; for p in $(WANTED); do \
	  [ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2> /dev/null)" = installed ] || \
	    missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	echo "installing$$missing"; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $$missing
