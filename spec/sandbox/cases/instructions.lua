--- Phases that do not end: loops the hook sees, loops in C that it does not see, and the clocks.

local FOREVER = "while true do end"

return {
  { id = "T01", hole = "a loop that never ends", expect = "limit:instructions", body = FOREVER,
    check = function(t)
      local o = t.outcome
      return (o.limit ~= 2000000 or o.used <= o.limit or not o.peak) and "limit, used or peak"
        or nil
    end },
  { id = "T02", hole = "pcall swallows the limit, and the loop goes on",
    expect = "limit:instructions",
    body = "while true do pcall(function() while true do end end) end" },
  { id = "T03", hole = "the message handler of xpcall loops where the hook is off",
    expect = "limit:instructions",
    body = "xpcall(function() while true do end end, function() while true do end end)" },
  { id = "T04", hole = "__close of a wrapped coroutine that the limit ends loops", body = [[
      pcall(coroutine.wrap(function()
        local x <close> = setmetatable({}, { __close = function() while true do end end })
        while true do end
      end))
    ]], expect = "limit:instructions" },
  { id = "T05", hole = "coroutine.close runs a __close that loops", expect = "limit:instructions",
    body = [[
      local thread = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() while true do end end })
        coroutine.yield()
      end)
      coroutine.resume(thread)
      pcall(coroutine.close, thread)
    ]] },
  { id = "T06", hole = "many coroutines that each stay below one slice of the count",
    expect = "limit:instructions", limits = { cpu = 4 },
    body = [[
      for _ = 1, 3000 do coroutine.wrap(function() for _ = 1, 150 do end end)() end
      return {}
    ]] },
  { id = "T07", hole = "a coroutine that yields before its slice is full starts the count anew",
    expect = { "limit:instructions", "limit:cpu" }, limits = { cpu = 1, instructions = 2000000 },
    body = [[
      local thread = coroutine.wrap(function()
        while true do
          for _ = 1, 80 do end
          coroutine.yield()
        end
      end)
      while true do thread() end
    ]] },
  { id = "T08", hole = "a finalizer that is put into a metatable later runs after all",
    expect = "ok",
    body = [[
      local meta = {}
      for _ = 1, 100 do setmetatable({}, meta) end
      meta.__gc = function() while true do end end
      local t = {}
      for i = 1, 20000 do t[i % 10] = { i } end
      return { a = 1 }
    ]] },
  { id = "T09", hole = "string.rep of nothing loops in C", expect = "limit:cpu",
    limits = { cpu = 1 },
    body = "return { a = string.rep('', math.maxinteger) }",
    check = function(t)
      return (t.outcome.limit ~= 1 or not t.outcome.peak) and "the worker itself has not told it"
        or nil
    end },
  { id = "T10", hole = "table.move over the whole range of integers loops in C",
    expect = "limit:cpu",
    limits = { cpu = 1 }, body = "table.move({}, 1, math.maxinteger - 1, 1)" },
  { id = "T11", hole = "table.insert believes a __len that lies", expect = "limit:cpu",
    limits = { cpu = 1 },
    body = [[
      local liar = setmetatable({}, { __len = function() return math.maxinteger - 1 end })
      table.insert(liar, 1, 0)
    ]] },
  { id = "T12", hole = "table.remove believes a __len that lies", expect = "limit:cpu",
    limits = { cpu = 1 },
    body = [[
      local liar = setmetatable({}, { __len = function() return math.maxinteger - 1 end })
      table.remove(liar, 1)
    ]] },
  { id = "T13", hole = "a pattern takes exponential time", expect = "limit:cpu",
    limits = { cpu = 1 },
    body = "return { a = (('a'):rep(40)):find(('.-'):rep(20) .. 'b') }" },
  { id = "T14", hole = "recursion of pcall doubles at each level", expect = "limit:instructions",
    body = [[
      local function double(n) pcall(double, n + 1) pcall(double, n + 1) end
      double(0)
    ]] },
  { id = "T15", hole = "the host calls __tostring of an error object", expect = "error",
    message = "an error object of type table",
    body = "error(setmetatable({}, { __tostring = function() while true do end end }))" },
  { id = "T16", hole = "a coroutine that wraps itself without end", expect = "ok",
    body = [[
      local function again() return coroutine.wrap(again)() end
      return { a = pcall(again) }
    ]],
    check = function(t) return t.evidence.a ~= false and "it came to an end" or nil end },
  { id = "T17", hole = "table.sort with a comparator in C never comes to an end",
    expect = { "ok", "error", "limit:cpu" }, limits = { cpu = 2, memory = 64 << 20 },
    body = [[
      local list = {}
      for i = 1, 100000 do list[i] = i % 7 end
      pcall(table.sort, list, rawequal)
      return {}
    ]] },
  { id = "T18", hole = "the count of instructions differs from run to run", expect = "ok",
    again = true,
    body = "local x = 0 for i = 1, 12345 do x = x + #tostring(i) end return { a = x }",
    check = function(t)
      local one, other = t.outcomes[1], t.outcomes[2]
      return one.used ~= other.used and ("%d and %d"):format(one.used, other.used) or nil
    end },
  { id = "T19", hole = "tail calls go on for ever without a loop or a stack",
    expect = "limit:instructions", body = "local function f() return f() end return f()" },
  { id = "T20", hole = "coroutines that are made and never run cost nothing",
    expect = "limit:instructions", limits = { instructions = 2000000, memory = 64 << 20 },
    body = "for _ = 1, 2500 do coroutine.create(type) end return {}" },
  { id = "T21", hole = "the compiler reads from a function that never ends",
    expect = "limit:instructions", body = "load(function() return ' ' end)" },
  { id = "T22", hole = "comparing long strings takes time that is not counted",
    expect = "limit:cpu",
    limits = { cpu = 1, memory = 64 << 20, instructions = 500000000 },
    body = [[
      local one, other = ("x"):rep(8 << 20) .. "1", ("x"):rep(8 << 20) .. "2"
      local n = 0
      while true do if one < other then n = n + 1 end end
    ]] },
  { id = "T23", hole = "a plain search takes quadratic time in C", expect = "limit:cpu",
    limits = { cpu = 1, memory = 64 << 20 },
    body = [[
      local text = ("a"):rep(2000000)
      for _ = 1, 100 do text:find(("a"):rep(1000000) .. "b", 1, true) end
      return {}
    ]] },
  { id = "T24", hole = "table.concat asks a metamethod without end", expect = "limit:instructions",
    body = [[
      local endless = setmetatable({}, { __index = function() return "" end })
      return { a = table.concat(endless, "", 1, math.maxinteger) }
    ]] },
  { id = "T25",
    hole = "time passes without CPU and instructions while nobody looks at the wall clock",
    expect = "limit:wall",
    limits = { wall = 0.4, cpu = 100, instructions = 400000000 }, body = FOREVER },
  { id = "T26", hole = "the script loops while it is only described", expect = "refused",
    message = "limit:instructions", source = "while true do end" },
  { id = "T27", hole = "a phase table that contains itself stalls the description",
    expect = "refused", message = "stack overflow",
    source = "local phase = { title = 'x', run = type } phase.self = phase return phase" },
  { id = "T28", hole = "__pairs of a phase table runs in the description and never ends",
    expect = "refused", message = "limit:instructions",
    source = [[
      return setmetatable({ title = "x", run = type }, { __pairs = function()
        return function() return 1, 1 end
      end })
    ]] },
  { id = "T29", hole = "a phase gives itself more instructions than the ceiling",
    expect = "refused", message = "instructions", limits = { instructions = 1e18 },
    body = FOREVER },
  { id = "T30", hole = "a wall limit that is no number is never reached", expect = "refused",
    source = "return { title = 'x', run = type, limits = { wall = 0 / 0 } }" },
  { id = "T31", hole = "a CPU limit of nothing means no limit", expect = "refused",
    message = "limits%.cpu", limits = { cpu = 0 }, body = FOREVER },
  { id = "T32", hole = "a loop in C inside a coroutine inside pcall escapes the CPU clock",
    expect = "limit:cpu", limits = { cpu = 1 },
    body = [[
      while true do
        pcall(coroutine.wrap(function()
          return (("a"):rep(30)):find(("a?"):rep(30) .. ("a"):rep(31))
        end))
        pcall(string.rep, "", 1 << 40)
      end
    ]] },
}
