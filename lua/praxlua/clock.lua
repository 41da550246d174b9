--- Times as people and files write them. Everything is UTC; instants are integer nanoseconds since
-- 1970-01-01T00:00:00Z, durations are seconds.
local clock = {}

local SECOND = 1000000000

--- Now, in nanoseconds.
---@return integer ns
function clock.now()
  return require("praxlua.core").system.now()
end

local function format(pattern, ns)
  return os.date(pattern, (ns or clock.now()) // SECOND)
end

--- ISO 8601 to the second: "2025-10-08T10:30:00Z".
---@param ns integer? nanoseconds; now when nil
---@return string
function clock.iso(ns)
  return format("!%Y-%m-%dT%H:%M:%SZ", ns)
end

--- For names of files and directories: "2025-10-08-103000".
---@param ns integer? nanoseconds; now when nil
---@return string
function clock.stamp(ns)
  return format("!%Y-%m-%d-%H%M%S", ns)
end

--- For lines of a log: "2025-10-08 10:30:00".
---@param ns integer? nanoseconds; now when nil
---@return string
function clock.log(ns)
  return format("!%Y-%m-%d %H:%M:%S", ns)
end

--- The day alone: "2025-10-08".
---@param ns integer? nanoseconds; now when nil
---@return string
function clock.date(ns)
  return format("!%Y-%m-%d", ns)
end

local function days_in_month(year, month)
  if month == 2 then
    return (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) and 29 or 28
  end
  return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

-- Days since 1970-01-01 in the Gregorian calendar. The year is counted from March, so that the
-- leap day is its last.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local since_march = (153 * (month - 3) + 2) // 5 + day - 1
  return 365 * year + year // 4 - year // 100 + year // 400 + since_march - 719468
end

local function zone_seconds(zone)
  if zone == "Z" or zone == "z" then return 0 end
  local sign, hours, minutes = zone:match("^([+-])(%d%d):?(%d%d)$")
  if not sign or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  local seconds = tonumber(hours) * 3600 + tonumber(minutes) * 60
  return sign == "-" and -seconds or seconds
end

--- The instant an ISO 8601 text names. A fraction of up to nine digits and an offset are
--- understood; a text without a zone is not (it would name no instant).
---@param text string
---@return integer|nil ns
---@return string? message
---@return string? code "EINVAL"
function clock.parse(text)
  local function refuse() return nil, "not an ISO 8601 time: " .. tostring(text), "EINVAL" end
  if type(text) ~= "string" then return refuse() end
  local year, month, day, hour, minute, second, rest =
    text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  if not year then return refuse() end
  local fraction, zone = rest:match("^%.(%d+)(.+)$")
  if not fraction then fraction, zone = "", rest end
  local offset = zone_seconds(zone)
  year, month, day = math.tointeger(year), math.tointeger(month), math.tointeger(day)
  hour, minute, second = math.tointeger(hour), math.tointeger(minute), math.tointeger(second)
  if not offset or #fraction > 9 or month < 1 or month > 12 or day < 1
    or day > days_in_month(year, month) or hour > 23 or minute > 59 or second > 60 then
    return refuse()
  end
  local seconds = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
  local nanoseconds = math.tointeger(tonumber(fraction .. string.rep("0", 9 - #fraction)))
  return seconds * SECOND + nanoseconds
end

--- A duration for people: "34 ms", "1.2 s", "1 min 15 s", "2 h 3 min".
---@param n number seconds
---@return string
function clock.seconds(n)
  if n < 0 then n = 0 end
  if n < 0.9995 then return string.format("%d ms", math.floor(n * 1000 + 0.5)) end
  if n < 59.95 then return string.format("%.1f s", n) end
  local whole = math.floor(n + 0.5)
  if whole < 3600 then return string.format("%d min %d s", whole // 60, whole % 60) end
  return string.format("%d h %d min", whole // 3600, whole % 3600 // 60)
end

--- A stopwatch for the steps of something: each step's seconds, by its name.
---@return table<string, number> seconds of the steps so far
---@return fun(name: string, action: function, ...): any run calls the action and returns what that
---  does
function clock.stopwatch()
  local steps, monotonic = {}, require("praxlua.core").system.monotonic
  return steps, function(name, action, ...)
    local began = monotonic()
    local results = table.pack(action(...))
    steps[name] = (steps[name] or 0) + monotonic() - began
    return table.unpack(results, 1, results.n)
  end
end

return clock
