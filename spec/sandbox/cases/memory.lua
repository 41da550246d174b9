--- Phases that want more memory than they may have, and those that try to crash what they run in.

local ANY_END = { "ok", "error", "limit:memory", "limit:instructions", "limit:cpu", "crash:SIGSEGV",
  "crash:SIGABRT" }

return {
  { id = "M01", hole = "a table that grows without end", expect = "limit:memory",
    body = "local t = {} for i = 1, 1e9 do t[i] = {} end",
    check = function(t)
      local o = t.outcome
      return (o.limit ~= 16 << 20 or not o.used or not o.peak or o.peak > o.limit)
        and "limit, used or peak" or nil
    end },
  { id = "M02",
    hole = "pcall swallows the lack of memory, and the phase goes on as if nothing were",
    expect = "limit:memory",
    body = [[
      for i = 1, 20 do
        pcall(function() local t = {} while true do t[#t + 1] = ("x"):rep(1e6) .. i .. #t end end)
      end
      return {}
    ]] },
  { id = "M03", hole = "one string larger than all memory", expect = "limit:memory",
    body = "local ok = pcall(string.rep, 'x', 1 << 30) return { a = ok }" },
  { id = "M04", hole = "coroutines are kept and their stacks are not counted",
    expect = "limit:memory", limits = { memory = 2 << 20, instructions = 1000000000 },
    body = [[
      local kept = {}
      for i = 1, 100000 do
        kept[i] = coroutine.wrap(function() local a = {} coroutine.yield(a) return a end)
        kept[i]()
      end
    ]] },
  { id = "M05", hole = "the buffer of table.concat is not counted", expect = "limit:memory",
    body = [[
      local endless = setmetatable({}, { __index = type })
      return { a = table.concat(endless, "", 1, math.maxinteger) }
    ]] },
  { id = "M06", hole = "string.pack makes a string of any length", expect = { "error",
    "limit:memory" },
    body = "return { a = string.pack('c2147483647', 'x') }" },
  { id = "M07", hole = "the length that string.rep computes overflows", expect = "error",
    message = "too large", body = "return { a = ('xy'):rep(math.maxinteger, 'z') }" },
  { id = "M08", hole = "the compiler's table of constants overflows",
    expect = { "ok", "limit:memory", "error" },
    body = [[
      local parts = { "return {" }
      for i = 1, 70000 do parts[#parts + 1] = i .. ".5," end
      parts[#parts + 1] = "}"
      local chunk = load(table.concat(parts))
      return { a = chunk and #chunk() }
    ]] },
  { id = "M09", hole = "table.unpack pushes more values than the stack has room for",
    expect = "error",
    message = "too many results", body = "return { a = select('#', table.unpack({}, 1, 1e8)) }" },
  { id = "M10", hole = "recursion without end overflows the stack of C",
    expect = { "error", "limit:memory" }, limits = { memory = 64 << 20 },
    body = "local function f() return 1 + f() end return { a = f() }" },
  { id = "M11", hole = "a chain of nested coroutine.close overflows the stack of C",
    expect = ANY_END,
    limits = { memory = 64 << 20, instructions = 100000000 },
    body = [[
      local inner
      for _ = 1, 12000 do
        local below = inner
        inner = coroutine.create(function()
          local x <close> = setmetatable({}, { __close = function()
            if below then coroutine.close(below) end
          end })
          coroutine.yield()
        end)
        coroutine.resume(inner)
      end
      coroutine.close(inner)
      return {}
    ]] },
  { id = "M12", hole = "an error in the handling of an error in the handling of an error",
    expect = "ok",
    body = [[
      local function handler(problem) error(problem) end
      local ok = xpcall(function() error("x") end, handler)
      return { a = ok }
    ]],
    check = function(t) return t.evidence.a ~= false and "no error" or nil end },
  { id = "M13", hole = "the emergency collection frees a table while a field of it is set",
    expect = ANY_END, limits = { memory = 1 << 20 },
    body = [[
      -- An assignment through __newindex whose table is reachable only through the metatable that
      -- the assignment's own metamethod takes away.
      local kept = {}
      local function step(i)
        local front = setmetatable({}, { __mode = "k" })
        getmetatable(front).__newindex = setmetatable({}, { __newindex = function(_, key, value)
          setmetatable(front, nil)
          kept[i % 64] = ("x"):rep(i % 4096) .. key
          rawset(front, {}, value)
        end, __mode = "v" })
        for j = 1, 20 do front["key" .. i .. "." .. j] = ("y"):rep(j * 17) end
      end
      for i = 1, 20000 do pcall(step, i) end
      return {}
    ]] },
  { id = "M14", hole = "short strings are kept where nobody counts", expect = "limit:memory",
    limits = { memory = 2 << 20, instructions = 100000000 },
    body = "local t = {} for i = 1, 1e9 do t['k' .. i] = true end" },
  { id = "M15", hole = "a replacement multiplies its text", expect = "limit:memory",
    body = "return { a = #(('x'):rep(1e6):gsub('.', ('y'):rep(1000))) }" },
  { id = "M16", hole = "string.unpack believes a length that lies", expect = "error",
    message = "too short",
    body = "return { a = string.unpack('s8', '\\255\\255\\255\\255\\255\\255\\255\\127') }" },
  { id = "M17", hole = "an error message of megabytes goes into state, report and events whole",
    expect = { "error", "limit:memory", "limit:output", "protocol:oversize" },
    body = "error(('x'):rep(4 << 20), 0)",
    check = function(t)
      return #t.message > 65536 and ("%d bytes of message"):format(#t.message) or nil
    end },
  { id = "M18", hole = "memory so small that not even the prelude fits", expect = "refused",
    message = "memory", limits = { memory = 1 },
    body = "return {}" },
  { id = "M19",
    hole = "one string a thousand times in the evidence is small here and large in the host",
    expect = "error", message = "too large",
    body = [[
      local text, list = ("x"):rep(1 << 20), {}
      for i = 1, 200 do list[i] = text end
      return { a = list }
    ]] },
  { id = "M20",
    hole = "a table in itself twice at every level is small here and endless in the host",
    expect = "error", message = "too many values",
    body = [[
      local t = {}
      for _ = 1, 30 do t = { t, t } end
      return { a = t }
    ]] },
  { id = "M21", hole = "parentheses without end overflow the parser", expect = "ok",
    body = "return { a = load('return ' .. ('('):rep(100000) .. '1') == nil }",
    check = function(t) return not t.evidence.a and "it was loaded" or nil end },
  { id = "M22", hole = "a chain of concatenations overflows the parser",
    expect = { "ok", "limit:memory" },
    body = "local f = load('return ' .. ('a..'):rep(100000) .. 'a') return { a = f == nil }",
    check = function(t) return t.evidence and not t.evidence.a and "it was loaded" or nil end },
  { id = "M23", hole = "the matcher of patterns recurses without end", expect = "error",
    message = "too complex",
    body = "return { a = (('a'):rep(300000)):match(('a?'):rep(300000)) or 0 }" },
  { id = "M24", hole = "a comparator that always says yes makes table.sort leave its array",
    expect = { "error", "ok" },
    body = [[
      local list = {}
      for i = 1, 1000 do list[i] = i end
      table.sort(list, function() return true end)
      return {}
    ]] },
  { id = "M25", hole = "a running coroutine is resumed or closed by itself", expect = "ok",
    body = [[
      local thread, results
      thread = coroutine.create(function()
        results = { coroutine.resume(thread) }
        results[3] = pcall(coroutine.close, thread)
      end)
      coroutine.resume(thread)
      return { a = results[1] == false and results[3] == false,
        b = pcall(coroutine.close, coroutine.running()) == false }
    ]],
    check = function(t) return not (t.evidence.a and t.evidence.b) and "it was done" or nil end },
  { id = "M26", hole = "pcall in pcall overflows the stack of C", expect = "ok",
    body = [[
      local function f() return pcall(f) end
      local results = { f() }
      return { a = results[#results] ~= nil }
    ]] },
  { id = "M27", hole = "a metamethod that needs itself overflows the stack of C", expect = "error",
    message = "overflow",
    body = [[
      local t = setmetatable({}, { __index = function(t, key) return t[key] end })
      return { a = t.x }
    ]] },
  { id = "M28", hole = "handlers of __close that fail in turn lose count of each other",
    expect = "ok",
    source = [[
      return { title = "x", evidence = { a = any() }, run = function()
        local count = 0
        local function closing(n)
          return setmetatable({}, { __close = function()
            count = count + 1
            error("close " .. n)
          end })
        end
        pcall(function()
          local a <close> = closing(1)
          local b <close> = closing(2)
          local c <close> = closing(3)
          error("body")
        end)
        return { a = count }
      end }
    ]],
    check = function(t) return t.evidence.a ~= 3 and "a handler was left out" or nil end },
  { id = "M29", hole = "the smallest integer divided by minus one traps in the processor",
    expect = "ok",
    body = [[
      local smallest, minus = math.mininteger, tonumber("-1")
      return { a = smallest // minus == smallest and smallest % minus == 0
        and math.tointeger(2.0 ^ 63) == nil
        and pcall(function() return 1 // (minus + 1) end) == false }
    ]],
    check = function(t) return not t.evidence.a and "wrong arithmetic" or nil end },
  { id = "M30", hole = "positions at the ends of the integers read beyond a string", expect = "ok",
    body = [[
      local text, low, high = "abc", math.mininteger, math.maxinteger
      return { a = text:sub(low, high) .. text:sub(high, low) .. tostring((text:byte(high)))
        .. tostring(text:find("b", high)) .. tostring(pcall(utf8.codepoint, text, low)) }
    ]],
    check = function(t) return t.evidence.a ~= "abcnilnilfalse" and t.evidence.a or nil end },
  { id = "M31", hole = "more results of string.byte than the stack has room for", expect = "error",
    message = "too long", limits = { memory = 64 << 20 },
    body = "return { a = select('#', string.byte(('x'):rep(10000000), 1, -1)) }" },
  { id = "M32", hole = "a coroutine is kept in a suspended call and its memory forgotten",
    expect = "limit:memory", limits = { memory = 4 << 20, instructions = 100000000 },
    body = [[
      local function grow(n) local a, b, c = n, n, n if n > 0 then return 1 + grow(n - 1) end
        coroutine.yield() return a + b + c end
      local kept = {}
      for i = 1, 1000 do kept[i] = coroutine.create(grow) coroutine.resume(kept[i], 150) end
    ]] },
  { id = "M33", hole = "varargs without end are copied on the stack of C",
    expect = { "error", "limit:memory", "limit:cpu" }, limits = { memory = 64 << 20, cpu = 1 },
    body = [[
      local function f(...) return f(1, 2, 3, 4, 5, 6, 7, 8, ...) end
      return { a = f() }
    ]] },
}
