--- The lines of a log as they are written, whatever becomes of the file meanwhile: it may be cut
--- short, or moved away and begun anew.
local core = require("praxlua.core")

local follow = {}

local CHUNK = 64 * 1024
local LONGEST = 64 * 1024 -- bytes of a line; more of it is a line of its own
local AT_ONCE = 4 * 1024 * 1024 -- bytes read by one call

--- Begins to follow a file.
---@param path string
---@param offset integer bytes; where it is longer than the file, from its beginning
---@return table reader
function follow.open(path, offset)
  return { path = path, at = offset, rest = "" }
end

local function close(reader)
  if reader.file then reader.file:close() end
  reader.file = nil
end

-- Opens the file that has the name now.
local function open(reader)
  local stat = core.file.stat(reader.path)
  if not stat or stat.type ~= "file" then return nil end
  reader.file = io.open(reader.path, "rb")
  reader.inode = stat.inode
  return reader.file
end

-- Whole lines of what was read, into `lines`; the rest waits for its end.
local function split(reader, data, lines)
  data = reader.rest .. data
  local from = 1
  for stop in data:gmatch("()\n") do
    lines[#lines + 1] = data:sub(from, stop - 1)
    from = stop + 1
  end
  reader.rest = data:sub(from)
  if #reader.rest > LONGEST then
    lines[#lines + 1], reader.rest = reader.rest, ""
  end
end

local function end_line(reader, lines)
  if reader.rest ~= "" then lines[#lines + 1] = reader.rest end
  reader.rest = ""
end

-- Reads what there is from reader.at on; whether that is all. A file that is shorter was cut: it
-- begins anew.
local function drain(reader, lines)
  local size = reader.file:seek("end")
  if size and size < reader.at then
    end_line(reader, lines)
    reader.at = 0
  end
  reader.file:seek("set", reader.at)
  local stop = reader.at + AT_ONCE
  repeat
    local data = reader.file:read(CHUNK)
    if not data then return true end
    reader.at = reader.at + #data
    split(reader, data, lines)
  until reader.at >= stop
  return false
end

-- Whether the name belongs to another file by now.
local function was_replaced(reader)
  local stat = core.file.stat(reader.path)
  return stat ~= nil and stat.type == "file" and stat.inode ~= reader.inode
end

--- The lines that were written since the last call; of many, the first of them.
---@param reader table of follow.open
---@return string[] lines without their ends, as they are in the file; none when there is no more
function follow.more(reader)
  local lines = {}
  if not reader.file and not open(reader) then return lines end
  if drain(reader, lines) and was_replaced(reader) then
    end_line(reader, lines)
    close(reader)
    reader.at = 0
    if open(reader) then drain(reader, lines) end
  end
  return lines
end

--- Ends it.
---@param reader table
---@return string|nil line the last one, where it has no end yet
function follow.close(reader)
  close(reader)
  return reader.rest ~= "" and reader.rest or nil
end

return follow
