--- What is written down about verbs, the prelude and the rest, against what there is; in both
--- directions.
local api = require("spec.support.api")
local helper = require("spec.support.helper")
local page = require("spec.support.page")
local phases = require("praxlua.phases")
local reference = require("praxlua.verbs.reference")
local schema = require("praxlua.schema")
local verbs = require("praxlua.verbs")
local verdict = require("praxlua.verdict")

local CTX = {
  source = "/nowhere", target = "/nowhere/.praxis-os", project = "/nowhere",
  target_name = ".praxis-os", memory = {}, options = {}, session = { completed_phases = {} },
}

local function granted(grants)
  local set = {}
  for _, name in ipairs(select(2, verbs.granted(CTX, grants))) do set[name] = true end
  return set
end

-- The same keys.
local function same(real, told)
  for name in pairs(told) do
    assert.truthy(real[name], name .. " is written down, and is not there")
  end
  for name in pairs(real) do assert.truthy(told[name], name .. " is not written down") end
end

local function set_of(list, key)
  local set = {}
  for _, of in ipairs(list) do set[key and of[key] or of] = true end
  return set
end

describe("The reference of verbs", function()
  it("has exactly the verbs there are", function()
    same(granted({ source = "read", target = "write", project = "write", tools = { "git" },
      services = verbs.services() }), reference.VERBS)
  end)

  it("tells the grant that each verb needs", function()
    local none = granted({})
    for name, of in pairs(reference.VERBS) do
      assert.equal(of.grant == nil, none[name] == true, name)
      if of.grant then
        local field, value = of.grant[1], of.grant[2]
        local grants = field == "services" and { services = { value } }
          or field == "tools" and { tools = { "git" } } or { [field] = value }
        assert.is_true(granted(grants)[name], name)
      end
      if of.grant and of.grant[2] == "write" then
        assert.is_nil(granted({ [of.grant[1]] = "read" })[name], name)
      end
    end
  end)

  -- A verb that changes something says so where it may not, with arguments that are right.
  it("tells when each verb may be called", function()
    local arguments = { string = "a", ["praxlua.phase.Command"] = { "git" }, integer = 1,
      table = {}, ["praxlua.phase.Step[]"] = {}, any = 1 }
    local all = verbs.granted(CTX, { target = "write", project = "write", tools = { "git" },
      services = verbs.services() })
    for name, of in pairs(reference.VERBS) do
      if of.when ~= "always" and all[name] then
        local given = {}
        for i, arg in ipairs(of.args) do
          if not arg.optional then given[i] = assert(arguments[arg[2]], name .. " " .. arg[2]) end
        end
        if name:find("rename$") then given[2] = "b" end
        helper.fails("EDENIED", all[name](table.unpack(given, 1, #of.args)))
      end
    end
  end)

  it("uses only groups, types and times that it describes", function()
    local groups = set_of(reference.GROUPS, 1)
    local function known(of)
      for name in of:gmatch("praxlua%.phase%.([%u]%a+)") do
        local own = name == "Model" or name == "Grants" or name == "Limits" or name == "Host"
        assert.truthy(own or reference.TYPES[name], name)
      end
    end
    for name, of in pairs(reference.VERBS) do
      assert.is_true(groups[name:match("^(.-)%.") or ""], name)
      assert.is_string(reference.WHEN[of.when], name)
      assert.is_true(#of.doc > 0 and #of.returns > 0, name)
      for _, text in ipairs(of.errors) do assert.matches("^%u[%u, ]*: .", text) end
      for _, arg in ipairs(of.args) do known(arg[2]) end
      for _, result in ipairs(of.returns) do known(result[1]) end
    end
  end)
end)

describe("The reference of the phase table", function()
  it("has exactly the fields that an upgrade reads", function()
    local real = {}
    for name in pairs(phases.DESCRIPTION.fields) do
      real[name == "runs" and "run" or name] = true
    end
    same(real, set_of(reference.PHASE, 1))
    same(phases.DESCRIPTION.fields.grants.of.fields, set_of(reference.GRANTS, 1))
  end)

  it("tells of every limit", function()
    for name in pairs(phases.LIMITS) do
      assert.is_table(reference.LIMITS[name], name)
      assert.is_number(phases.CEILINGS[name], name)
    end
  end)

  it("tells of every type of evidence", function()
    local told = set_of(reference.PRELUDE, "name")
    for _, of in ipairs(reference.PRELUDE) do
      if of.schema then assert.is_table(schema.PARAMETERS[of.schema], of.name) end
    end
    for name in pairs(schema.prelude) do assert.is_true(told[name], name) end
  end)
end)

describe("The reference of verdicts", function()
  it("has exactly those that there are", function()
    for _, of in ipairs(reference.VERDICTS) do
      assert.is_true(verdict.is((of[1]:gsub("SIGNAL", "SIGSEGV"))), of[1])
    end
    assert.is_false(verdict.is("limit:patience"))
    local told = set_of(reference.VERDICTS, 1)
    for _, name in ipairs(verdict.names()) do assert.is_true(told[name], name) end
  end)
end)

describe("The reference of names", function()
  -- What a worker finds, by a script that tells it: the globals, and what is in each library.
  local function found()
    local list = assert(phases.read("look.lua", [[
      local names = {}
      for name, value in pairs(_G) do
        names[#names + 1] = name
        if type(value) == "table" and value ~= _G then
          for field in pairs(value) do names[#names + 1] = name .. "." .. field end
        end
      end
      return { title = table.concat(names, " "), after = "content-upgrade", run = type }
    ]])).title
    local set = {}
    for name in list:gmatch("%S+") do
      set[name] = not reference.OLD[name:match("^math%.(.*)$")] or nil
    end
    return set
  end

  it("has exactly those a script finds", function()
    local told = reference.globals()
    for library, names in pairs(reference.LIBRARIES) do
      for _, name in ipairs(names) do told[library .. "." .. name] = true end
    end
    same(found(), told)
  end)

  it("gives the numbers of the prelude as they are", function()
    for _, of in ipairs(reference.PRELUDE) do
      if of.value then
        local phase = assert(phases.read("x.lua", "return { title = tostring(" .. of.name
          .. "), after = 'content-upgrade', run = type }"))
        assert.equal(tostring(of.value), phase.title)
      end
    end
  end)

  it("says what to do instead only for what is not there", function()
    local there = found()
    for name in pairs(reference.ABSENT) do assert.is_nil(there[name], name) end
  end)
end)

describe("What is made from the reference", function()
  it("is as it would be made now", function()
    for path, make in pairs(api.FILES) do assert.equal(make(), helper.read(path), path) end
  end)

  it("names every verb and type in the page, with anchors that lead there", function()
    local text = api.page()
    for name in pairs(reference.VERBS) do
      assert.truthy(text:find("\n### `host." .. name .. "(", 1, true), name)
    end
    for name in pairs(reference.TYPES) do
      assert.truthy(text:find("\n### " .. name .. "\n", 1, true), name)
    end
  end)

  -- The annotations, run: what they declare, as tables and functions.
  local function declared()
    local environment = {}
    local chunk = assert(load(api.meta() .. "\nreturn { host = host, target = target, "
      .. "source = source, project = project, json = json, validation = validation, "
      .. "backup = backup, content = content, dependencies = dependencies, server = server, "
      .. "report = report, lock = lock }", "=meta", "t", environment))
    return chunk(), environment
  end

  it("is annotations that are Lua and declare every verb and name, and no other", function()
    local groups, environment = declared()
    local told = {}
    for group, of in pairs(groups) do
      for name in pairs(of) do told[group == "host" and name or group .. "." .. name] = true end
    end
    assert.same(told, (function()
      local set = {}
      for name in pairs(reference.VERBS) do set[name] = true end
      return set
    end)())
    local globals = {}
    for name in pairs(environment) do globals[name] = true end
    assert.same(set_of(reference.PRELUDE, "name"), globals)
  end)

  it("is annotations of classes that are all there", function()
    local text, classes = api.meta(), {}
    for name in text:gmatch("%-%-%-@class (%S+)") do classes[name] = true end
    for line in text:gmatch("[^\n]+") do
      local tag = line:match("^%-%-%-@(%l+)")
      if tag == "field" or tag == "param" or tag == "return" then
        for name in line:gmatch("praxlua%.phase%.[%u][%w%.]*%w") do
          assert.is_true(classes[name], name)
        end
      end
    end
  end)

  it("declares all that the examples of the guide use", function()
    local groups, environment = declared()
    for name, code in pairs(page.scripts()) do
      for group, verb in code:gmatch("%f[%w]host%.([%l]+)%.([%l_]+)") do
        assert.is_function(groups[group] and groups[group][verb], name .. ": " .. verb)
      end
      for called in code:gmatch("%f[%w_.:]([%l_]+)[%({]") do
        local own = code:find("function " .. called, 1, true) or code:find("." .. called, 1, true)
        assert.truthy(own or environment[called] or reference.globals()[called], called)
      end
    end
  end)
end)

describe("The built-in phases", function()
  it("call only verbs that are written down", function()
    for _, file in pairs(phases.BUILT_IN) do
      for name in helper.read("phases/" .. file):gmatch("host%.([%l]+%.?[%l_]*)%(") do
        assert.is_table(reference.VERBS[name], file .. ": " .. name)
      end
    end
  end)
end)
