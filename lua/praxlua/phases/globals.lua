--- Which global names a script reads and sets, and where: from its bytecode, so that locals,
--- shadowed names and fields are never mistaken for one.
--
-- The format is what lua_dump of Lua 5.4 writes (ldump.c and lundump.h of its source, opcodes and
-- their layout in lopcodes.h); it belongs to the Lua this module itself runs in. A global is an
-- access to a field of the upvalue _ENV of the main chunk.
local globals = {}

-- The head of a dump of Lua 5.4 with 4-byte instructions, 8-byte integers and doubles.
local HEAD = "\27Lua\x54\x00\x19\x93\r\n\x1a\n\x04\x08\x08"
  .. string.pack("<i8d", 0x5678, 370.5)

local OP = {
  LOADK = 3, LOADKX = 4, GETUPVAL = 9, GETTABUP = 11, GETTABLE = 12, SETTABUP = 15, EXTRAARG = 82,
}
local ABSOLUTE = -0x80 -- in the line deltas: the line is in the table of absolute ones
local NUMBERS = { [0x03] = "<i8", [0x13] = "<d" } -- integer and float
local STRINGS = { [0x04] = true, [0x14] = true }  -- short and long

-- A reader of the parts of a dump.
local function reader(dump, at)
  local r = {}
  function r.byte()
    at = at + 1
    return dump:byte(at - 1)
  end
  function r.size() -- seven bits a byte, the last one marked
    local value = 0
    repeat
      local b = r.byte()
      value = value << 7 | b & 0x7f
    until b & 0x80 ~= 0
    return value
  end
  function r.string()
    local size = r.size()
    if size == 0 then return nil end
    at = at + size - 1
    return dump:sub(at - size + 1, at - 1)
  end
  function r.unpack(form)
    local value
    value, at = string.unpack(form, dump, at)
    return value
  end
  function r.is_at_end() return at == #dump + 1 end
  return r
end

local function read_constants(r)
  local constants = {}
  for i = 0, r.size() - 1 do
    local kind = r.byte()
    if STRINGS[kind] then
      constants[i] = r.string()
    elseif NUMBERS[kind] then
      r.unpack(NUMBERS[kind])
    end
  end
  return constants
end

-- The indexes of a function's upvalues that are the chunk's _ENV. `outer`: those of the function
-- around it; nil for the main chunk, whose only upvalue it is.
local function read_upvalues(r, outer)
  local is_env = {}
  for i = 0, r.size() - 1 do
    local in_stack, index = r.byte(), r.byte()
    r.byte() -- its kind
    is_env[i] = outer == nil or in_stack == 0 and outer[index] or nil
  end
  return is_env
end

-- The line of each instruction.
local function read_lines(r, first)
  local deltas, absolute, lines = {}, {}, {}
  for pc = 0, r.size() - 1 do deltas[pc] = r.unpack("<i1") end
  for _ = 1, r.size() do
    local pc = r.size()
    absolute[pc] = r.size()
  end
  local line = first
  for pc = 0, #deltas do
    line = deltas[pc] == ABSOLUTE and absolute[pc] or line + (deltas[pc] or 0)
    lines[pc] = line
  end
  return lines
end

local function skip_names(r)
  for _ = 1, r.size() do
    r.string()
    r.size()
    r.size()
  end
  for _ = 1, r.size() do r.string() end
end

-- Where the name is beyond the reach of one instruction, _ENV and the name are loaded first; what
-- follows at once is a read, else it is an assignment whose value is still to be computed.
local function long_access(code, constants, pc, register)
  local word = code[pc + 1]
  local op, key = word & 0x7f, word >> 7 & 0xff
  local index, after = word >> 15, pc + 2
  if op == OP.LOADKX then
    index, after = code[pc + 2] >> 7, pc + 3
  elseif op ~= OP.LOADK then
    return nil
  end
  local next_word = code[after] or 0
  local is_read = next_word & 0x7f == OP.GETTABLE and next_word >> 16 & 0xff == register
    and next_word >> 24 == key
  return constants[index], not is_read
end

local function note_accesses(code, constants, is_env, lines, found)
  for pc = 0, #code do
    local word = code[pc]
    local op, a, b = word & 0x7f, word >> 7 & 0xff, word >> 16 & 0xff
    local name, sets
    if op == OP.GETTABUP and is_env[b] then
      name, sets = constants[word >> 24], false
    elseif op == OP.SETTABUP and is_env[a] then
      name, sets = constants[b], true
    elseif op == OP.GETUPVAL and is_env[b] and pc < #code then
      name, sets = long_access(code, constants, pc, a)
    end
    if name then found[#found + 1] = { name = name, line = lines[pc], sets = sets } end
  end
end

local function read_function(r, outer, found)
  r.string() -- the source's name
  local first = r.size()
  r.size() -- the last line
  r.unpack("<I3") -- parameters, varargs, stack
  local code = {}
  for pc = 0, r.size() - 1 do code[pc] = r.unpack("<I4") end
  local constants = read_constants(r)
  local is_env = read_upvalues(r, outer)
  for _ = 1, r.size() do read_function(r, is_env, found) end
  local lines = read_lines(r, first)
  skip_names(r)
  note_accesses(code, constants, is_env, lines, found)
end

--- The global names of a compiled chunk.
---@param dump string what string.dump gave for it, with its debug information
---@return { name: string, line: integer, sets: boolean }[]|nil found sorted by line
---@return string? message when this is no dump this module knows how to read
---@return string? code "EFORMAT"
function globals.read(dump)
  if dump:sub(1, #HEAD) ~= HEAD then
    return nil, "the bytecode of this Lua is not the one of Lua 5.4 that is known here", "EFORMAT"
  end
  local found = {}
  local r = reader(dump, #HEAD + 2) -- past the count of upvalues
  local ok = pcall(read_function, r, nil, found)
  if not ok or not r.is_at_end() then
    return nil, "the bytecode ends in the middle of a function", "EFORMAT"
  end
  for i, access in ipairs(found) do access.order = i end
  table.sort(found, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    return a.order < b.order
  end)
  return found
end

return globals
