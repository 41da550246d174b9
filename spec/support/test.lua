--- The test runner: lua5.4 spec/support/test.lua STAGE... prints each stage as it goes, and at the
-- end exactly one line "N passed, N failed, N skipped", summed over everything. Exits with 1 when
-- anything failed, a build and a crash included.
--
-- Environment: B (the build directory), LUA, JOBS (specs at a time), SPEC_SECONDS (limit of one
-- file), SPEC_TMPDIR (where specs work, in place of memory).

local build = os.getenv("B") or "build"
local lua = os.getenv("LUA") or "lua5.4"
local seconds = os.getenv("SPEC_SECONDS") or "600"

local total = { passed = 0, failed = 0, skipped = 0 }

local function say(...)
  io.write(...)
  io.write("\n")
  io.flush()
end

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  return text, (pipe:close())
end

local function trimmed(command)
  return (output_of(command):gsub("%s+$", ""))
end

local here = trimmed("pwd -P")
local jobs = os.getenv("JOBS") or trimmed("nproc")

local function absolute(path)
  return path:sub(1, 1) == "/" and path or here .. "/" .. path
end

local function now()
  return tonumber(trimmed("date +%s%N")) / 1e9
end

local function add(results, word)
  results[word] = results[word] + 1
end

local function build_variant(directory, variables, targets)
  return os.execute(("env -u MAKEFLAGS -u MFLAGS make -s -j%s B=%s %s %s"):format(
    jobs, quote(directory), variables, targets or "all fault-tools"))
end

local disk = os.getenv("TMPDIR") or "/tmp"

-- Where a sync costs nothing, if the machine has that: in memory, with room for all that specs
-- make at a time (2 GiB), and where programs can be run.
local function memory()
  return trimmed([[
    at=/dev/shm/praxlua-probe-$$
    [ "$(stat -f -c %T /dev/shm)" = tmpfs ] &&
      [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -gt 2097152 ] &&
      [ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -gt 4194304 ] &&
      printf '#!/bin/sh\n' > $at && chmod +x $at && $at && echo /dev/shm
    rm -f $at
  ]])
end

local quick = os.getenv("SPEC_TMPDIR") or memory()
if quick == "" then quick = disk end

-- The specs work there, but for these of unit/ and integration/, which are about what a disk does.
-- Most of them run under the sanitizers too, and there in memory: they are tried on both.
local ON_DISK = {
  "unit/archive", "unit/backup", "unit/content", "unit/durability", "unit/file", "unit/lock",
  "unit/restore", "unit/root", "unit/transaction", "unit/transaction_copy",
  "unit/transaction_lost", "unit/transaction_rescue", "unit/tree", "integration/upgrade",
}

-- What the samples of the integration tests are made from is built once a run.
local sample_base = trimmed("mktemp -d " .. quote(quick) .. "/praxlua-base-XXXXXX")

-- The search path of a spec. Where "python3" is a version manager's script that looks for the
-- interpreter anew each time, the folder of that goes first: the script takes as long as a Python.
local search_path = trimmed([[
  found=$(command -v python3) &&
    real=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))') &&
    [ "$(realpath "$found")" != "$real" ] && [ -x "${real%/*}/python3" ] &&
    printf '%s:' "${real%/*}"
]]) .. os.getenv("PATH")

-- The environment of a spec: the work tree's Lua, one build's module and executable.
local function environment(directory, extra)
  local variables = {
    PATH = search_path,
    TMPDIR = quick,
    DISK = disk,
    ON_DISK = "spec/" .. table.concat(ON_DISK, "_spec.lua spec/") .. "_spec.lua",
    LUA_PATH = "./?.lua;lua/?.lua;lua/?/init.lua;;",
    LUA_CPATH = absolute(directory) .. "/lib/?.so;;",
    PRAXLUA_HOST = absolute(directory) .. "/praxlua",
    PRAXLUA_SAMPLE_BASE = sample_base,
    RESULTS = absolute(directory) .. "/results",
    XDG_CACHE_HOME = absolute(directory) .. "/cache", -- no test writes in the real one
    LUA = lua,
    SPEC_SECONDS = seconds,
    BUSTED_OPTIONS = "",
    LC_ALL = "C.UTF-8",
  }
  for name, value in pairs(extra or {}) do variables[name] = value end
  local words = { "env -u PRAXLUA_PATH -u MAKEFLAGS -u MFLAGS" }
  for name, value in pairs(variables) do words[#words + 1] = name .. "=" .. quote(value) end
  return table.concat(words, " ")
end

local function count_results(directory, results)
  for path in output_of("ls " .. quote(directory) .. "/*.tsv 2>/dev/null"):gmatch("[^\n]+") do
    for line in io.lines(path) do
      local word = line:match("^(%l+)\t")
      if word then add(results, word) end
    end
  end
end

local function make_empty(directory)
  os.execute(("rm -rf %s && mkdir -p %s"):format(quote(directory), quote(directory)))
end

-- The files that take longest, the longest first: begun first, they leave no processor idle at the
-- end. Of the others the order does not matter.
local LONG = {
  "integration/hostile_archive", "integration/signals", "integration/kill_resume",
  "integration/upgrade", "integration/kill_rollback", "integration/failure",
  "integration/undo_commands", "integration/data_loss", "integration/race",
  "integration/concurrency", "integration/refusal", "integration/luarocks",
  "unit/dependencies", "unit/engine", "unit/campaign", "unit/undo", "unit/server",
  "unit/phase_check", "unit/execution", "unit/restore", "unit/unfinished", "unit/rehearse",
  "unit/rollback", "unit/spawn", "unit/worker", "unit/transaction_rescue",
}

-- The spec files beneath `roots`, in the order in which they are begun.
local function in_order(roots)
  local there, list = {}, {}
  local found = output_of("find " .. roots .. " -name '*_spec.lua' 2>/dev/null | sort")
  for path in found:gmatch("[^\n]+") do there[path] = true end
  for _, name in ipairs(LONG) do
    local path = ("spec/%s_spec.lua"):format(name)
    if there[path] then list[#list + 1], there[path] = path, nil end
  end
  for path in found:gmatch("[^\n]+") do
    if there[path] then list[#list + 1] = path end
  end
  return list
end

-- Runs the spec files beneath `roots`, some at a time, each in a process of its own.
local function run_specs(roots, directory, results, extra)
  local env = environment(directory, extra)
  local results_directory = absolute(directory) .. "/results"
  make_empty(results_directory)
  local runner = assert(io.popen(("%s xargs -r -n 1 -P %s sh spec/support/run_spec.sh"):format(
    env, jobs), "w"))
  for _, path in ipairs(in_order(roots)) do runner:write(path, "\n") end
  runner:close()
  count_results(results_directory, results)
end

-- Runs a command that prints "ok - ...", "not ok - ..." and "skipped - ..." lines.
local function run_checks(command, results)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local failed = results.failed
  for line in pipe:lines() do
    local word = line:match("^not ok ") and "failed" or line:match("^ok ") and "passed"
      or line:match("^skipped %- ") and "skipped"
    if word then add(results, word) end
    say("  ", line)
  end
  if not pipe:close() and results.failed == failed then add(results, "failed") end
end

-- What the sanitizers wrote, from whichever process: each report is a failure.
local function count_reports(directory, results)
  for path in output_of("ls " .. quote(directory) .. "/report.* 2>/dev/null"):gmatch("[^\n]+") do
    local lines = {}
    for line in io.lines(path) do
      -- A process that a test killed while it looked for leaks at its own end: not a finding.
      if not line:find("Unable to get registers from thread", 1, true) then
        lines[#lines + 1] = line
      end
    end
    if #lines > 0 then
      add(results, "failed")
      say("  FAILED sanitizer report ", path)
      for _, line in ipairs(lines) do say("    ", line) end
    end
  end
end

local stages = {}

function stages.lint(results)
  run_checks(("B=%s %s spec/support/lint.lua"):format(quote(build), lua), results)
end

function stages.unit(results)
  run_specs("spec/unit", build, results)
end

function stages.integration(results)
  run_specs("spec/integration", build, results)
end

-- A part of the cases of each family of faults, drawn by a seed; a family is one line.
function stages.faults(results)
  run_checks(("env -u MAKEFLAGS -u MFLAGS make -s B=%s JOBS=%s SHARE=sample faults"):format(
    quote(build), jobs), results)
end

-- Some of the pairs of releases, drawn by a seed.
function stages.corpus(results)
  run_checks(("env -u MAKEFLAGS -u MFLAGS make -s B=%s JOBS=%s SHARE=sample corpus"):format(
    quote(build), jobs), results)
end

-- A part of the hostile phases of each group, of the defences and of the upgrades, by a seed.
function stages.sandbox(results)
  run_checks(("env -u MAKEFLAGS -u MFLAGS PRAXLUA_SAMPLE_BASE=%s make -s B=%s JOBS=%s SHARE=sample "
    .. "sandbox"):format(quote(sample_base), quote(build), jobs), results)
end

-- The specs that are about C, or drive much of it.
local SANITIZED = {
  "archive", "backup", "broker", "change", "file", "foreground", "hash", "http", "journal", "lock",
  "process", "root", "run", "spawn", "system", "transaction", "tree", "undo", "verbs", "worker",
}

-- Those, and of the integration specs the tests that are marked "#smoke" in their name.
function stages.asan(results)
  local directory = build .. "/asan"
  if not build_variant(directory, "SANITIZE=address,undefined") then
    return add(results, "failed")
  end
  os.execute(("rm -f %s/report.*"):format(quote(directory)))
  local extra = {
    LUA = absolute(directory) .. "/bin/lua5.4",
    PATH = absolute(directory) .. "/bin:" .. search_path,
    ON_DISK = "",
  }
  local specs = {}
  for i, name in ipairs(SANITIZED) do specs[i] = "spec/unit/" .. name .. "_spec.lua" end
  run_specs(table.concat(specs, " "), directory, results, extra)
  extra.BUSTED_OPTIONS = "--tags=smoke"
  run_specs("spec/integration", directory, results, extra)
  count_reports(directory, results)
end

-- The committed inputs of every fuzz target and mutations of them, under the sanitizers.
function stages.replay(results)
  local directory = build .. "/asan"
  local program = directory .. "/faults/fuzz"
  if not build_variant(directory, "SANITIZE=address,undefined", quote(program .. "/replay")) then
    return add(results, "failed")
  end
  run_checks(("%s spec/faults/fuzz/sample.lua %s"):format(lua, quote(program)), results)
end

function stages.rock(results)
  run_checks("sh spec/support/rock.sh", results)
end

function stages.docs(results)
  run_checks(lua .. " spec/support/docs.lua", results)
end

-- Every spec once more in a build that marks the lines that run; the report is the check. Left out:
-- tests marked "#uncounted", which a process that writes its counts at its end would disturb.
function stages.coverage(results)
  local directory = build .. "/coverage"
  if not build_variant(directory, "COVERAGE=1") then return add(results, "failed") end
  local lines = absolute(directory) .. "/lines"
  make_empty(lines)
  os.execute(("find %s -name '*.gcda' -delete"):format(quote(directory)))
  run_specs("spec/unit spec/integration", directory, results, {
    PRAXLUA_COVERAGE_DIR = lines,
    BUSTED_OPTIONS = "--exclude-tags=uncounted",
  })
  run_checks(("%s spec/support/coverage.lua %s"):format(lua, quote(directory)), results)
end

for _, name in ipairs(arg) do
  local results = { passed = 0, failed = 0, skipped = 0 }
  local stage = assert(stages[name], "no such stage: " .. name)
  local began = now()
  say("== ", name)
  stage(results)
  say(("== %s: %d passed, %d failed, %d skipped in %.0f s"):format(name, results.passed,
    results.failed, results.skipped, now() - began))
  for word, count in pairs(results) do total[word] = total[word] + count end
end

os.execute("rm -rf " .. quote(sample_base))
if total.passed == 0 and total.failed == 0 then total.failed = 1 end
say(("%d passed, %d failed, %d skipped"):format(total.passed, total.failed, total.skipped))
os.exit(total.failed == 0 and 0 or 1, true)
