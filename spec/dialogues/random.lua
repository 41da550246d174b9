--- Numbers from a seed and a number: the same two give the same numbers on every machine.
local random = {}

--- A source of its own; it must be used up before another one is made (the generator is Lua's).
---@param seed integer
---@param number integer
---@return table rng between(least, most), chance(share), one(list)
function random.new(seed, number)
  math.randomseed(seed, number)
  local rng = {}
  function rng.between(least, most) return math.random(least, most) end
  function rng.chance(share) return math.random() < share end
  function rng.one(list) return list[math.random(#list)] end
  return rng
end

return random
