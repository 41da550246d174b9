-- What the documentation says against what the code does: options, exit codes, evidence, services,
-- messages, files. (Events: events_spec.lua; examples, anchors: the stage `docs`.)
local backup_manifest = require("praxlua.backup.manifest")
local evidence = require("praxlua.evidence")
local helper = require("spec.support.helper")
local phases = require("praxlua.phases")
local sources = require("spec.support.sources")
local state = require("praxlua.state")
local verbs = require("praxlua.verbs")

local function page(path) return assert(helper.read(path), path .. " is not there") end

-- The part of a page below a heading, up to the next heading of the same rank or a higher one.
local function section(path, heading)
  local found, rank, inside = {}, nil, false
  for line in page(path):gmatch("([^\n]*)\n") do
    local marks, title = line:match("^(#+)%s+(.*)$")
    if inside and marks and #marks <= rank then break end
    if inside then found[#found + 1] = line end
    if title == heading then rank, inside = #marks, true end
  end
  assert.is_true(inside, path .. " has no section '" .. heading .. "'")
  return table.concat(found, "\n") .. "\n"
end

-- The cells of a page's table rows: { { first, second, … }, … }.
local function rows(text)
  local all = {}
  for line in text:gmatch("[^\n]+") do
    if line:find("^| ") and not line:find("^|[-:|]+$") then
      local cells = {}
      for cell in line:gmatch("|%s*(.-)%s*%f[|]") do cells[#cells + 1] = cell end
      all[#all + 1] = cells
    end
  end
  return all
end

-- The command line's parser, caught on its way.
local function parser()
  local argparse = require("argparse")
  local caught
  package.loaded["argparse"] = function(...)
    caught = argparse(...)
    return caught
  end
  package.loaded["praxlua.cli"] = nil
  local errors = io.stderr
  io.stderr = { write = function() end } -- luacheck: ignore
  local ok, code = pcall(require("praxlua.cli").main, {})
  io.stderr = errors -- luacheck: ignore
  package.loaded["argparse"], package.loaded["praxlua.cli"] = argparse, nil
  assert.is_true(ok, code)
  assert.equal(2, code)
  return caught
end

-- The commands that can be typed: { ["backup list"] = parser, … }.
local function commands(of, prefix, found)
  for _, command in ipairs(of._commands) do
    local name = prefix .. command._name
    if #command._commands > 0 then
      commands(command, name .. " ", found)
    else
      found[name] = command
    end
  end
  return found
end

local function options_of(command)
  local set = {}
  for _, option in ipairs(command._options) do
    for _, alias in ipairs(option._aliases) do set[alias] = true end
  end
  return set
end

-- The options that the first column of a section's tables names.
local function documented(text)
  local set = {}
  for _, cells in ipairs(rows(text)) do
    for word in cells[1]:gmatch("`(%-%-?[%w-]+)") do set[word] = true end
  end
  return set
end

local function union(a, b)
  local all = {}
  for key in pairs(a) do all[key] = true end
  for key in pairs(b) do all[key] = true end
  return all
end

describe("docs/cli.md", function()
  local all, common

  setup(function()
    all = parser()
    common = documented(section("docs/cli.md", "Options of every command"))
  end)

  it("has a section for every command, with exactly its options", function()
    local found = commands(all, "", {})
    assert.is_table(found["upgrade"])
    for name, command in pairs(found) do
      local own = documented(section("docs/cli.md", "praxlua " .. name))
      assert.same(options_of(command), union(own, common), name)
    end
  end)

  it("names no command that is not there", function()
    local found = commands(all, "", {})
    for name in page("docs/cli.md"):gmatch("\n## praxlua ([^\n]+)") do
      assert.is_table(found[name], name)
    end
  end)

  it("names the options of the program itself", function()
    local own = documented(section("docs/cli.md", "praxlua"))
    assert.same(options_of(all), union(own, { ["-h"] = true, ["--help"] = true }))
  end)
end)

describe("The exit codes", function()
  -- "0 done, 1 failed and rolled back, …" of the help text.
  local function in_help()
    local epilog = parser()._epilog:gsub("%s+", " "):match("Exit codes: (.*)%.$")
    local codes = {}
    for code, meaning in (epilog .. ", 0"):gmatch("(%d[%d/]*) (.-), %f[%d]") do
      codes[#codes + 1] = { code = code, meaning = meaning }
    end
    assert.is_true(#codes >= 8)
    return codes
  end

  for path, heading in pairs({ ["README.md"] = "Exit codes", ["docs/cli.md"] = "Exit codes" }) do
    it("in " .. path .. " are those of the help text", function()
      local documented_rows = rows(section(path, heading))
      table.remove(documented_rows, 1)
      local help = in_help()
      assert.equal(#help, #documented_rows)
      for i, cells in ipairs(documented_rows) do
        assert.equal(help[i].code, (cells[1]:gsub(", ", "/")))
        assert.truthy(cells[2]:find(help[i].meaning, 1, true),
          ("%s: '%s' does not say '%s'"):format(help[i].code, cells[2], help[i].meaning))
      end
    end)
  end
end)

describe("The pages", function()
  it("are all reached from the README by links that lead somewhere", function()
    local seen, queue = { ["README.md"] = true }, { "README.md" }
    while #queue > 0 do
      local path = table.remove(queue)
      local folder = path:match("^(.*/)") or ""
      for target in page(path):gsub("```.-```", ""):gmatch("%]%(([^)#%s]+)[^)]*%)") do
        if not target:find("^%a+:") then
          local at = folder .. target
          assert.is_string(helper.read(at), path .. ": " .. target .. " leads nowhere")
          if at:find("%.md$") and not seen[at] then
            seen[at] = true
            queue[#queue + 1] = at
          end
        end
      end
    end
    for _, path in ipairs(sources.list("^docs/.*%.md$")) do
      assert.is_true(seen[path], path .. " is reached by no link")
    end
  end)
end)

describe("docs/phases.md", function()
  for number = 0, #phases.BUILT_IN do
    it(("has every evidence field of phase %d, and no other"):format(number), function()
      local heading = ("Phase %d: %s"):format(number, state.PHASES[number])
      local fields = {}
      for field in pairs(evidence.models[number].fields) do fields[field] = true end
      local told = {}
      for _, cells in ipairs(rows(section("docs/phases.md", heading))) do
        local field = cells[1]:match("^`([%w_]+)`$")
        if field then told[field] = true end
      end
      assert.same(fields, told)
    end)

    it(("names every value the checkpoint of phase %d demands"):format(number), function()
      local heading = ("Phase %d: %s"):format(number, state.PHASES[number])
      local checkpoint = section("docs/phases.md", heading):match("\nCheckpoint: (.-)\n\n") or
        section("docs/phases.md", heading):match("\nCheckpoint: (.*)$")
      assert.is_string(checkpoint)
      for _, demand in ipairs(evidence.required[number]) do
        assert.truthy(checkpoint:find("`" .. demand.field .. "`", 1, true), demand.field)
      end
    end)
  end
end)

describe("docs/guide.md", function()
  it("names every function of the services that a phase may call", function()
    local told = {}
    for _, cells in ipairs(rows(section("docs/guide.md", "Phases of your own"))) do
      local service = cells[1]:match("^`(%l+)`$")
      if verbs.SERVICES[service] or service == "lock" then
        for name in cells[2]:gmatch("`([%l_]+)`") do told[service .. "." .. name] = true end
      end
    end
    local services = { "lock" }
    for service in pairs(verbs.SERVICES) do services[#services + 1] = service end
    local granted = {}
    local _, names = verbs.granted({ target_name = ".praxis-os", memory = {}, options = {} },
      { services = services })
    for _, name in ipairs(names) do
      local service = name:match("^(%l+)%.")
      if verbs.SERVICES[service] or service == "lock" then granted[name] = true end
    end
    assert.same(granted, told)
  end)

  it("names the limits of a phase", function()
    local text = section("docs/guide.md", "Phases of your own")
    for name, value in pairs(phases.LIMITS) do
      local told
      for _, cells in ipairs(rows(text)) do
        if cells[1]:match("^`" .. name .. "`") then told = cells end
      end
      assert.is_table(told, name)
      local unit = ({ memory = 1024 * 1024, instructions = 1000000 })[name] or 1
      assert.equal(value // unit, tonumber(told[2]:match("^%d+")), name)
    end
  end)
end)

describe("docs/files.md", function()
  it("names every field of a session", function()
    local told = section("docs/files.md", "`.cache/state/<session>.json`")
    for field in pairs(assert(state.session.to_dict(state.session.new()))) do
      assert.truthy(told:find("`" .. field .. "`", 1, true), field)
    end
  end)

  it("names every field of a backup's manifest, and no other", function()
    local fields, told = {}, {}
    for field in pairs(backup_manifest.schema.fields) do fields[field] = true end
    for _, cells in ipairs(rows(section("docs/files.md", "`.backups/<time>/`"))) do
      for field in cells[1]:gmatch("`([%l%d_]+)`") do told[field] = true end
    end
    assert.same(fields, told)
  end)
end)

describe("docs/troubleshooting.md", function()
  -- Everything we can write: our sources, literals that go on in the next line joined, white space
  -- made one.
  local function our_words()
    local all = {}
    for _, path in ipairs(sources.list("%.[lch]u?a?$")) do
      if path:find("^lua/") or path:find("^phases/") or path:find("^runtime/") then
        all[#all + 1] = sources.read(path)
      end
    end
    local joined = table.concat(all, "\n"):gsub('"%s*%.%.%s*"', ""):gsub('"%s*\n%s*"', "")
    return (joined:gsub("%s+", " "))
  end

  -- The messages an item begins with: "- `one`, `another` (exit 3): what it means".
  local function messages_of(item)
    local found, at = {}, 1
    while true do
      local message, stop = item:match("^`([^`]+)`()", at)
      if not message then return found end
      found[#found + 1] = message
      at = item:match("^, ()", stop) or #item + 1
    end
  end

  local function items()
    local all = {}
    local text = page("docs/troubleshooting.md"):match("\n## .*$")
    for line in text:gmatch("[^\n]+") do
      local first, more = line:match("^%- (.*)$"), line:match("^  (%S.*)$")
      if first then
        all[#all + 1] = first
      elseif more then
        all[#all] = all[#all] .. " " .. more
      end
    end
    return all
  end

  it("quotes only messages that the code can write", function()
    local words, count, unknown = our_words(), 0, {}
    for _, item in ipairs(items()) do
      for _, message in ipairs(messages_of(item)) do
        for part in (message .. "…"):gmatch("(.-)…") do
          part = part:match("^[%s':;,.()]*(.-)[%s':;,.()]*$")
          if #part > 2 then
            count = count + 1
            if not words:find(part, 1, true) then unknown[#unknown + 1] = part end
          end
        end
      end
    end
    assert.same({}, unknown)
    assert.is_true(count > 150, count .. " parts of messages")
  end)
end)
