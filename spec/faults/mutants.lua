--- Every guard of the product taken out in turn, and what notices.
--
-- A guard is a function whose calls protect something: a sync, a journal write, a verification, a
-- second look, a lock. `guards` says what a call of each becomes; `rows` names each call (a site, see
-- sites.lua) with its catchers (families/mutation.lua). A call without a row is an error
-- (mutants.missing), so no new one is forgotten. Further mutants replace a piece of text.
local sites = require("spec.faults.sites")
local sources = require("spec.support.sources")

local mutants = {}

--- What a call becomes, by the guard's name.
mutants.guards = {
  -- syncs
  durable_sync = "0", durable_sync_all = "0", sync_directory = "0", journal_sync = "0",
  transaction_sync = "0",
  -- the journal
  journal_append = "0",
  -- second looks
  still_as_before = "0", transaction_is = "1", look_at = "0", transaction_is_empty = "1",
  transaction_rescue = "0", rescue_file = "0", rescue_directory = "0", transaction_ready = "0",
  has_writer = "0",
  -- verifications
  state_same_content = "1", journal_check = "0",
  -- room for a way back
  transaction_reserve = "0", journal_reserve = "0",
  -- locks
  flock = "0", is_current = "1",
}

local rows = {}

local texts = {}

-- ---------------------------------------------------------------------------------------------
-- The list

local function lines_of(text, at) return sources.line_at(text, at) end

-- All calls of guards, by name.
local function all_sites()
  local names, found = {}, {}
  for name in pairs(mutants.guards) do names[#names + 1] = name end
  table.sort(names)
  for _, path in ipairs(sources.list("^runtime/.*%.c$")) do
    for _, site in ipairs(sites.of(path, sources.read(path), names)) do
      found[sites.name(site)] = site
    end
  end
  for _, path in ipairs(sources.list("^lua/.*%.lua$")) do
    for _, site in ipairs(sites.of(path, sources.read(path), names)) do
      found[sites.name(site)] = site
    end
  end
  return found
end
