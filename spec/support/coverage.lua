--- The report of `make coverage`: lua5.4 spec/support/coverage.lua BUILD_DIRECTORY. Prints tests
-- and line coverage of each module, and fails a language that is below the floor.

package.path = "./?.lua;" .. package.path
local cjson = require("cjson")
local sources = require("spec.support.sources")

local directory = assert(arg[1], "usage: coverage.lua BUILD_DIRECTORY")
local floor = 85 -- percent of a language's lines

-- As in runtime/coverage.h.
local name_size, line_count = 96, 2048

local function lines_of(command)
  local lines = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end

-- All marks of all processes: source name -> set of lines.
local function marked_lines()
  local marked = {}
  local record_size = name_size + line_count
  for _, path in ipairs(lines_of("ls " .. directory .. "/lines/*.lines 2>/dev/null")) do
    local data = sources.read(path)
    for at = 1, #data - record_size + 1, record_size do
      local name = data:sub(at, at + name_size - 1):match("^[^\0]+")
      if name then
        marked[name] = marked[name] or {}
        local from, to = at + name_size, at + record_size - 1
        local position = data:find("\1", from, true)
        while position and position <= to do
          marked[name][position - from] = true
          position = data:find("\1", position + 1, true)
        end
      end
    end
  end
  return marked
end

-- The lines of a Lua file that hold code, from the compiler's own listing. Left out: what prepares
-- varargs, and the return that closes each function, which often cannot be reached.
local function lines_with_code(path)
  local lines, last = {}, nil
  for _, text in ipairs(lines_of(("luac5.4 -l -p '%s'"):format(path))) do
    local line, operation = text:match("^%s+%d+%s+%[(%d+)%]%s+(%u[%u%d]*)")
    if line then
      if last then lines[last] = true end
      last = operation ~= "VARARGPREP" and tonumber(line) or nil
    elseif text:find("^%S") then -- the header of the next function
      last = nil
    end
  end
  return lines
end

local function lua_modules()
  local marked, modules = marked_lines(), {}
  for _, path in ipairs(sources.list("%.lua$")) do
    local module = path:match("^lua/praxlua/(.*)%.lua$")
    if path:find("^lua/praxlua/meta/") then module = nil end -- annotations, which nothing loads
    local phase = path:match("^phases/(.*)%.lua$")
    if module or phase then
      local row = { lines = 0, covered = 0, path = path }
      row.name = phase and "phase " .. phase
        or module:gsub("/init$", ""):gsub("/", ".")
      row.key = (phase and phase:gsub("^%d+%-", "") or row.name):gsub("[-.]", "_")
      local ran = marked[phase and phase .. ".lua" or path] or {}
      for line in pairs(lines_with_code(path)) do
        row.lines = row.lines + 1
        if ran[line] then row.covered = row.covered + 1 end
      end
      modules[#modules + 1] = row
    end
  end
  return modules
end

-- What gcov says of each C file: name -> line -> executed.
local function gcov_lines()
  local files = {}
  for _, notes in ipairs(lines_of("ls " .. directory .. "/objects/*.gcno")) do
    for _, text in ipairs(lines_of("gcov --json-format --stdout '" .. notes .. "' 2>/dev/null")) do
      for _, file in ipairs(cjson.decode(text).files) do
        local path = file.file:match("[^/]+/[^/]+$") -- "runtime/hash.c", however it was called
        local seen = files[path] or {}
        for _, line in ipairs(file.lines) do
          seen[line.line_number] = seen[line.line_number] or line.count > 0
        end
        files[path] = seen
      end
    end
  end
  return files
end

local function c_modules()
  local files, modules = gcov_lines(), {}
  for _, path in ipairs(sources.list("^runtime/[%w_]+%.c$")) do
    local name = path:match("([%w_]+)%.c$")
    if name ~= "coverage" then -- in no build but this one
      local row = { name = name, key = name, path = path, lines = 0, covered = 0 }
      for _, executed in pairs(files[path] or {}) do
        row.lines = row.lines + 1
        if executed then row.covered = row.covered + 1 end
      end
      modules[#modules + 1] = row
    end
  end
  return modules
end

-- Tests run, by spec: "hash" -> 24.
local function tests_by_spec()
  local tests = {}
  for _, path in ipairs(lines_of("ls " .. directory .. "/results/*.tsv 2>/dev/null")) do
    local spec = path:match("spec%-%l+%-([^/]*)%.tsv$") or "?"
    for line in io.lines(path) do
      if line:find("^passed\t") or line:find("^failed\t") then
        tests[spec] = (tests[spec] or 0) + 1
      end
    end
  end
  return tests
end

-- A spec belongs to the module it is named after: archive_spec and archive_limits_spec to archive.
local function count_tests(modules, tests, taken)
  for spec, count in pairs(tests) do
    local owner
    for _, row in ipairs(modules) do
      local named = spec == row.key or spec:sub(1, #row.key + 1) == row.key .. "_"
      if named and (not owner or #row.key > #owner.key) then owner = row end
    end
    if owner then
      owner.tests = (owner.tests or 0) + count
      taken[spec] = true
    end
  end
end

local function percent(row)
  return row.lines == 0 and 100 or 100 * row.covered / row.lines
end

local function print_row(name, row)
  print(("%-40s %6s %6d %8d %6.1f %%"):format(name, row.tests or "-", row.lines, row.covered,
    percent(row)))
end

local function print_table(language, modules)
  local total = { tests = 0, lines = 0, covered = 0 }
  print(("%-40s %6s %6s %8s %8s"):format(language .. " module", "tests", "lines", "covered",
    "percent"))
  table.sort(modules, function(a, b) return a.path < b.path end)
  for _, row in ipairs(modules) do
    print_row(row.name, row)
    for _, field in ipairs({ "tests", "lines", "covered" }) do
      total[field] = total[field] + (row[field] or 0)
    end
  end
  print_row("all of " .. language, total)
  print("")
  return total
end

local tests, taken = tests_by_spec(), {}
local failed = false
local verdicts = {}
for _, language in ipairs({ { "Lua", lua_modules() }, { "C", c_modules() } }) do
  local name, modules = language[1], language[2]
  count_tests(modules, tests, taken)
  local share = percent(print_table(name, modules))
  local good = share >= floor
  failed = failed or not good
  verdicts[#verdicts + 1] = ("%s - %s: %.1f %% of the lines are covered (%d %% at least)"):format(
    good and "ok" or "not ok", name, share, floor)
end

local others = {}
for spec, count in pairs(tests) do
  if not taken[spec] then others[#others + 1] = ("%s %d"):format(spec, count) end
end
table.sort(others)
if #others > 0 then print("tests of the whole: " .. table.concat(others, ", ")) end
print(table.concat(verdicts, "\n"))
os.exit(not failed, true)
