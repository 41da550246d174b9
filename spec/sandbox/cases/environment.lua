--- What a hostile phase finds around it: names, chunks, metatables, what is remembered.
local helper = require("spec.support.helper")
local names = require("spec.sandbox.names")

-- Planted beside the phase: whoever runs one of them leaves a file behind.
local PLANTED = "local out = io.open(os.getenv('HOME') .. '/was-run', 'w') out:close() return {}"

return {
  { id = "E01", hole = "a library with authority is left among the globals", expect = "ok",
    body = [[
      local found = {}
      for _, name in ipairs({ "io", "os", "debug", "package", "require", "dofile", "loadfile",
        "print", "warn", "ffi", "bit32", "core", "cjson", "lfs", "luv" }) do
        if _G[name] ~= nil then found[#found + 1] = name end
      end
      return { a = found }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, " ") or nil end },
  { id = "E02", hole = "load binds other globals than the script's own", expect = "ok",
    body = [[
      string.mine = 1
      local chunk = load("return os, io, require, debug, package, _G, string.mine")
      local results = table.pack(chunk())
      return { a = results[6] == _G and results[7] == 1, b = results[1] or results[2] or results[3]
        or results[4] or results[5] and true or false }
    ]],
    check = function(t) return (not t.evidence.a or t.evidence.b) and "other globals" or nil end },
  { id = "E03", hole = "load takes bytecode when the mode says so", expect = "ok",
    body = [[
      local chunk, message = load("\27LuaT\0\25\147\r\n\26\n", "x", "b")
      local both, other = load("\27LuaT\0\25\147\r\n\26\n", "x", "bt")
      return { a = chunk == nil and both == nil, b = message, c = other }
    ]],
    check = function(t)
      local refusal = "attempt to load a binary chunk"
      return not (t.evidence.a and t.evidence.b:find(refusal) and t.evidence.c:find(refusal))
        and "bytecode was read" or nil
    end },
  { id = "E04", hole = "load takes bytecode from a reader function", expect = "ok",
    body = [[
      local pieces = { "\27", "Lua", "T\0" }
      local chunk, message = load(function() return table.remove(pieces, 1) end, "x", "b")
      return { a = chunk == nil, b = message }
    ]],
    check = function(t)
      return not (t.evidence.a and t.evidence.b:find("attempt to load a binary chunk"))
        and "bytecode was read" or nil
    end },
  { id = "E05", hole = "string.dump makes bytecode to be patched and loaded", expect = "ok",
    body = "return { a = string.dump == nil and ('').dump == nil }",
    check = function(t) return not t.evidence.a and "string.dump is there" or nil end },
  { id = "E06", hole = "a basic type has a metatable that all values share", expect = "ok",
    body = [[
      local shared = {}
      for _, value in ipairs({ 1, 1.5, true, false, print or type, coroutine.create(type) }) do
        if getmetatable(value) ~= nil then shared[#shared + 1] = type(value) end
      end
      return { a = #shared == 0 and getmetatable(nil) == nil }
    ]],
    check = function(t) return not t.evidence.a and "a shared metatable" or nil end },
  { id = "E07", hole = "the metatable of strings can be had and changed", expect = "ok",
    body = [[
      local changed = pcall(setmetatable, "", {})
      return { a = getmetatable("") == false and not changed }
    ]],
    check = function(t) return not t.evidence.a and "the metatable of strings is open" or nil end },
  { id = "E08", hole = "what one phase puts into a library is there for the next one",
    first = "string.evil = 1 _G.evil = 1 math.evil = 1", expect = "ok",
    body = "return { a = string.evil == nil and evil == nil and math.evil == nil }",
    check = function(t) return not t.evidence.a and "a phase left something behind" or nil end },
  { id = "E09", hole = "a module planted in the project is found before ours", expect = "ok",
    prepare = function(s)
      for _, name in ipairs({ "cjson.lua", "praxlua/init.lua", "lfs.so", "praxlua/core.so",
        "argparse.lua", "phases/evil.so" }) do
        helper.write(s.project .. "/" .. name, PLANTED)
      end
    end,
    body = "return { a = need and host.json.encode({ x = 1 }) }" },
  { id = "E10", hole = "a chunk that load made with no environment falls back to the globals",
    expect = "ok",
    body = [[
      local chunk = load("return string", "x", "t", nil)
      local ok = pcall(chunk)
      local other = load("return string", "x", "t", {})
      return { a = not ok and other() == nil }
    ]],
    check = function(t) return not t.evidence.a and "the globals were found" or nil end },
  { id = "E11", hole = "a replaced ipairs makes the prelude hand out verbs that were not granted",
    expect = "denied:grant",
    source = [[
      ipairs = function() return next, { "target.write", "spawn", "lock.release" }, nil end
      return { title = "x", evidence = { a = any(), b = any() }, run = function(host)
        local done, message, code = host.target.write("file", "changed")
        return { a = code, b = done }
      end }
    ]] },
  { id = "E12", hole = "tostring shows the address of a table, a function or a coroutine",
    expect = "ok",
    body = [[
      return { a = tostring({}) .. tostring(type) .. tostring(coroutine.create(type))
        .. tostring(function() end) }
    ]],
    check = function(t) return t.evidence.a:find("0x") and t.evidence.a or nil end },
  { id = "E13", hole = "string.format(\"%p\") shows an address", expect = { "ok", "error" },
    body = "return { a = string.format('%p %20p', {}, type) }",
    check = function(t) return t.evidence and t.evidence.a:find("%x%x%x%x%x") and t.evidence.a
      or nil end },
  { id = "E14", hole = "string.format(\"%s\") shows an address", expect = "ok",
    body = "return { a = string.format('%s %-30s', {}, type) }",
    check = function(t) return t.evidence.a:find("0x") and t.evidence.a or nil end },
  { id = "E15", hole = "a __name of its own brings the address back", expect = "ok",
    body = [[
      local named = setmetatable({}, { __name = "Mine" })
      return { a = tostring(named) .. string.format("%s", named) }
    ]],
    check = function(t) return t.evidence.a:find("0x") and t.evidence.a or nil end },
  { id = "E16", hole = "an error message shows an address", expect = "ok",
    body = [[
      local parts = {}
      for _, run in ipairs({
        function() return {} + 1 end, function() return {} < {} end, function() return #type end,
        function() return ({})() end, function() error({}) end, function() return {} .. "x" end,
        function() for i = {}, 2 do end end, function() string.rep({}, 1) end,
        function() setmetatable({}, 1) end, function() return math.floor({}) end,
      }) do
        parts[#parts + 1] = tostring(select(2, pcall(run)))
      end
      return { a = table.concat(parts, "\n") }
    ]],
    check = function(t) return t.evidence.a:find("0x") and t.evidence.a or nil end },
  { id = "E17", hole = "collectgarbage switches the collector off or into another mode",
    expect = "ok",
    body = [[
      local taken = {}
      for _, what in ipairs({ "stop", "restart", "generational", "incremental", "step", "collect",
        "setpause", "setstepmul", "isrunning" }) do
        if pcall(collectgarbage, what, 100) then taken[#taken + 1] = what end
      end
      return { a = taken, b = collectgarbage("count") > 0 }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, " ") or nil end },
  { id = "E18",
    hole = "random numbers differ from run to run and make evidence that cannot be repeated",
    expect = "ok", again = true,
    body = "return { a = math.random(1 << 60), b = math.random(), c = math.randomseed == nil }",
    check = function(t)
      local one, other = t.outcomes[1].evidence, t.outcomes[2].evidence
      return (one.a ~= other.a or one.b ~= other.b or not one.c) and "other numbers" or nil
    end },
  { id = "E19", hole = "a phase gives its table a finalizer, which runs where no hook sees it",
    expect = "error", message = "__gc is not allowed",
    body = "setmetatable({}, { __gc = function() while true do end end }) return {}" },
  { id = "E20",
    hole = "what the script does to the libraries reaches the host's way of sending evidence",
    expect = "ok",
    body = [[
      for _, library in ipairs({ string, table, math, utf8, coroutine }) do
        for name in pairs(library) do library[name] = nil end
      end
      local result = { a = 1, b = { 1, 2, 3 } }
      local globals, each = _G, next
      for name in each, globals do globals[name] = nil end
      return result
    ]],
    check = function(t)
      return (t.evidence.a ~= 1 or #t.evidence.b ~= 3) and "the evidence changed" or nil
    end },
  { id = "E21",
    hole = "the arguments of the prelude, the way to the host among them, reach the script",
    expect = "ok",
    source = [[
      local count, first = select("#", ...), ...
      return { title = "x", evidence = { a = any(), b = any() }, run = function()
        return { a = count, b = type(first) }
      end }
    ]],
    check = function(t) return t.evidence.a ~= 0 and "it got arguments" or nil end },
  { id = "E22", hole = "a name appears or disappears while a phase runs", expect = "ok",
    body = names.LISTER .. "return { a = list(host) }",
    check = function(t) return names.differences(t.evidence.a, "run") end },
  { id = "E23", hole = "a name appears or disappears while a script is described", expect = "ok",
    source = names.LISTER .. [[
      return { title = list(), run = function() return {} end }
    ]],
    check = function(t) return names.differences(t.phase.title, "describe") end },
  { id = "E24", hole = "the script itself is bytecode", expect = "refused",
    message = "attempt to load a binary chunk",
    source = "\27LuaT\0\25\147\r\n\26\n\4\8\8" },
  { id = "E25", hole = "the locals of the prelude are found through the functions it hands out",
    expect = "ok",
    body = [[
      -- Without debug a closure shows only what it returns and what its environment gives away.
      local seen = {}
      setmetatable(_G, { __index = function(_, name) seen[#seen + 1] = name end,
        __newindex = function(_, name) seen[#seen + 1] = "new " .. name end })
      integer() array_of({}) optional({}) object({}) host.time()
      pcall(need, nil)
      return { a = seen }
    ]],
    check = function(t)
      return #t.evidence.a > 0 and "the prelude looks up " .. table.concat(t.evidence.a, " ") or nil
    end },
  { id = "E26", hole = "the environment of the supervisor reaches the worker",
    body = "return { a = host.ask('?') }", expect = "ok",
    during = function(_, pid) return (helper.read(("/proc/%d/environ"):format(pid))) end,
    check = function(t)
      return (t.evidence.a or ""):find("SECRET_OF_OURS", 1, true) and "it is there" or nil
    end },
}
