--- `make lint`: compilers' and checkers' opinions, then the rules of this house that no tool knows.
-- Prints "ok - check" or "not ok - check" with what was found. Environment: B, the build directory.

package.path = "./?.lua;" .. package.path
local rules = require("spec.support.rules")

local build = os.getenv("B") or "build"

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local failed = false

local function report(name, good, findings)
  failed = failed or not good
  print((good and "ok - " or "not ok - ") .. name)
  if not good then print((findings:gsub("%s+$", ""):gsub("[^\n]+", "    %0"))) end
  io.flush()
end

-- A check that is a command: good when it exits with 0.
local function tool(name, command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1 < /dev/null"))
  local output = pipe:read("a")
  report(name, pipe:close() == true, output)
end

tool("gcc: no warning in any C file",
  "make -k -s B=" .. quote(build .. "/lint") .. " STRICT=1 objects fault-tools")

-- Suppressed: variableScope, because a function with one exit path declares what it releases before
-- the first way there; constParameterCallback, because a callback's signature is not ours.
tool("cppcheck: no finding", "cppcheck --quiet --std=c11 --language=c --platform=unix64 "
  .. "--enable=warning,style,performance,portability --inline-suppr --error-exitcode=1 "
  .. "--suppress=variableScope --suppress=constParameterCallback "
  .. "-DPRAXLUA_COVERAGE -D__x86_64__ -Iruntime -I" .. quote(build .. "/lint/generated")
  .. " runtime spec/faults/*.c")

tool("luacheck: no warning in any Lua file",
  "luacheck --quiet --no-color lua phases spec runtime/embed.lua rocks/*.rockspec .luacheckrc")

tool("clang-format: every C file is formatted",
  "clang-format --dry-run -Werror $(find runtime spec -name '*.[ch]')")

tool("sh: every script parses",
  "find runtime spec -name '*.sh' -print | xargs -r -n 1 sh -n && bash -n .ci/run")

tool("the API of phases is written down as it is", ("LUA_PATH='./?.lua;lua/?.lua;lua/?/init.lua;;' "
  .. "LUA_CPATH=%s/lib/'?.so;;' %s spec/support/api.lua --check"):format(quote(build),
    os.getenv("LUA") or "lua5.4"))

for _, rule in ipairs(rules) do
  local findings = rule.check()
  report(rule.name, #findings == 0, table.concat(findings, "\n"))
end

os.exit(not failed, true)
