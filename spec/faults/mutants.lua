--- Every guard of the product taken out in turn, and what notices.
--
-- A guard is a function whose calls protect something: a sync, a journal write, a verification, a
-- second look, a lock. `c_guards` and `lua_guards` say what a call of each becomes; `rows` names
-- each call (a site, see sites.lua) with its catchers (families/mutation.lua). A call without a row
-- is an error (mutants.missing), so no new one is forgotten. Further mutants replace text.
local sites = require("spec.faults.sites")
local sources = require("spec.support.sources")

local mutants = {}

-- What a call becomes, by the guard's name.
local c_guards = {
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
  state_same_content = "1", journal_check = "0", transaction_reach = "0",
  transaction_find_reached = "0",
  -- room for a way back
  transaction_reserve = "0", journal_reserve = "0",
  -- locks
  flock = "0", is_current = "1",
}

local lua_guards = {
  -- locks
  ["core.lock.acquire"] = "{ release = function() end, held = function() return true end }",
  -- verifications
  ["store.verify"] = "store.read_manifest(directory)", compare_with_live = "true",
  ["scope.compare"] = "true", check_scope = "true", check_archive = "true",
  check_requirements = "true", ["backup.verify_backup_integrity"] = "true",
  ["seal.check"] = "true", ["process.same"] = "true",
  -- second looks
  ["r.transaction:rescue"] = "{}",
}

-- Calls that no mutant is made of, and why.
local without = {
  ["cli/doctor/check_target/core.lock.acquire"] = "tries whether the file system has locks",
  ["overlay/open/core.lock.acquire"] = "of a private copy, which nobody else knows",
}

-- Each call of a guard, and who notices when it is gone.
local rows = {
  { "apply.c/exchange_back/transaction_is", "spec:integration/race:followed" },
  { "apply.c/out_and_in/transaction_is", "spec:integration/race:stops a" },
  { "apply.c/prepare/journal_append", "spec:transaction" },
  { "apply.c/prepare/journal_reserve", "spec:durability" },
  { "apply.c/prepare/journal_sync", "order:upgrade" },
  { "apply.c/prepare/transaction_reserve", "spec:durability", "spec:undo" },
  { "apply.c/prepare/transaction_sync", "order:upgrade" },
  { "apply.c/replace_file/transaction_is", "spec:integration/race:stops a" },
  { "apply.c/switch_change/still_as_before", "spec:transaction" },
  { "apply.c/take_directory/transaction_is_empty", "spec:durability" },
  { "apply.c/take_directory/transaction_is_empty2", "spec:transaction_rescue:in a folder" },
  { "apply.c/transaction_apply/transaction_reach", "spec:journal" },
  { "apply.c/transaction_apply/transaction_ready", "spec:durability" },
  { "backup/compare_with_live/scope.compare", "spec:backup" },
  { "backup/describe/store.verify", "spec:backup" },
  { "backup/link_archive/scope.compare", "spec:backup" },
  { "backup/link_archive/store.verify", "spec:backup" },
  { "backup/prove/compare_with_live", "spec:backup" },
  { "backup/prove/store.verify", "spec:second_look:reads a new" },
  { "backup/store/check_archive/scope.compare", "spec:backup" },
  { "backup/store/store.open/store.verify", "spec:backup" },
  { "backup/store/store.verify/check_archive", "spec:backup" },
  { "backup/store/store.verify/check_requirements", "spec:backup" },
  { "backup/store/store.verify/check_scope", "spec:backup" },
  { "change.c/state_equal/state_same_content", "spec:transaction", "spec:undo" },
  { "children/children.alive/process.same", "spec:run", "spec:children" },
  { "children/children.alive/process.same2", "spec:run", "spec:children" },
  { "children/living/process.same", "spec:second_look:number of a watcher" },
  { "cli/backup/actions.verify/backup.verify_backup_integrity", "spec:cli_backup" },
  { "file.c/file_link/sync_directory", "spec:durability" },
  { "file.c/file_remove/sync_directory", "spec:durability" },
  { "file.c/file_rename/sync_directory", "spec:durability" },
  { "file.c/file_rename/sync_directory2", "spec:durability" },
  { "file.c/file_symlink/sync_directory", "spec:durability" },
  { "file.c/fill_temp/durable_sync", "spec:durability" },
  { "file.c/make_directory/sync_directory", "spec:durability" },
  { "file.c/replace/sync_directory", "spec:durability" },
  { "file.c/sync_directory/durable_sync", "spec:durability" },
  { "journal.c/give_up/durable_sync", "spec:durability" },
  { "journal.c/journal_append/journal_check", "spec:journal", "spec:transaction" },
  { "journal.c/journal_append/journal_sync", "spec:durability" },
  { "journal.c/journal_sync/durable_sync", "order:upgrade" },
  { "journal.c/renew/durable_sync", "order:rollback" },
  { "journal.c/write_anew/durable_sync", "order:rollback" },
  { "journal.c/write_old/durable_sync", "spec:durability" },
  { "journal_read.c/record_at/journal_check", "spec:journal" },
  { "keep.c/is_known/has_writer", "spec:second_look:finds who has" },
  { "keep.c/is_known/state_same_content", "spec:undo" },
  { "keep.c/is_known/state_same_content2", "spec:undo" },
  { "keep.c/rescue/rescue_directory", "spec:transaction_rescue" },
  { "keep.c/rescue/rescue_file", "spec:transaction_rescue", "spec:integration/race:" },
  { "keep.c/rescue/rescue_file2", "spec:transaction_rescue", "spec:integration/race:" },
  { "keep.c/let_go/transaction_is_empty", "spec:transaction_rescue" },
  { "keep.c/transaction_rescue/transaction_sync", "spec:durability" },
  { "lock.c/handle_release/flock", "spec:durability" },
  { "lock.c/lock_acquire/is_current", "spec:lock" },
  { "lock.c/try_lock/flock", "spec:lock" },
  { "pack.c/finish/durable_sync", "spec:durability" },
  { "pack.c/finish/durable_sync2", "spec:durability" },
  { "record.c/begin/journal_append", "spec:transaction" },
  { "record.c/begin/transaction_reserve", "spec:durability" },
  { "record.c/begin/transaction_reach", "spec:transaction" },
  { "record.c/seal/journal_append", "spec:undo:keeps a note" },
  { "record.c/seal/journal_sync", "order:upgrade" },
  { "record.c/seal/transaction_ready", "spec:journal", "spec:undo" },
  { "record.c/seal/transaction_sync", "order:upgrade" },
  { "record.c/transaction_checkpoint/transaction_reserve", "spec:durability", "spec:undo" },
  { "record.c/transaction_open/transaction_find_reached", "spec:journal" },
  { "record.c/transaction_note_kept/journal_append", "spec:transaction_rescue" },
  { "record.c/transaction_note_kept/journal_sync", "spec:durability" },
  { "record.c/transaction_sync/durable_sync_all", "order:upgrade" },
  { "reserve.c/transaction_reserve/journal_reserve", "spec:durability" },
  { "restore/obstacle/backup.verify_backup_integrity", "spec:restore" },
  { "run/rescue/r.transaction:rescue", "spec:second_look:before its undo data goes" },
  { "run/run.is_alive/process.same", "spec:run" },
  { "run/run.open/core.lock.acquire", "spec:run" },
  { "run/run.while_locked/core.lock.acquire", "spec:rehearse",
    "spec:integration/project_file:waits for", "spec:cli_server:waits for nobody" },
  { "seal/seal.open/seal.check", "spec:seal" },
  { "server/owned/owned.end_leftovers/process.same", "spec:second_look:had started" },
  { "server/owned/send/process.same", "spec:second_look:before a signal" },
  { "server/owned/wait_gone/process.same", "spec:second_look:before a signal" },
  { "stage.c/enqueue/transaction_ready", "spec:journal", "spec:undo", "spec:transaction" },
  { "state/sequence_of/seal.check", "spec:state" },
  { "temporary/make/core.lock.acquire", "spec:temporary" },
  { "temporary/remove_left/core.lock.acquire", "spec:temporary" },
  { "transaction.c/l_rescue/transaction_rescue", "spec:transaction_rescue" },
  { "tree.c/tree_sync/durable_sync_all", "spec:durability" },
  { "undo.c/begin_undo/journal_sync", "order:rollback" },
  { "undo.c/find_again/state_same_content", "spec:second_look:takes no other" },
  { "undo.c/find_old/transaction_is", becomes = "0", "spec:transaction_lost" },
  { "undo.c/find_old/state_same_content", "spec:transaction_lost" },
  { "undo.c/find_old/state_same_content2", "spec:transaction_lost" },
  { "undo.c/look_at/transaction_is", "spec:integration/race:tells where" },
  { "undo.c/out_and_in/look_at", "spec:integration/race:tells where" },
  { "undo.c/record/journal_append", "spec:undo", "order:rollback" },
  { "undo.c/swap_back/look_at", "spec:integration/race:tells where" },
  { "undo.c/take_out/look_at", "spec:integration/race:tells where" },
  { "undo.c/transaction_supply/durable_sync", "spec:durability" },
  { "undo.c/undo/transaction_reach", "spec:journal" },
  { "undo.c/undo/transaction_sync", "order:rollback" },
  { "undo.c/undo_lost/look_at", "spec:integration/race:data was lost" },
}

-- Further mutants: { name, file, find (occurs exactly once), becomes, catchers… }.
local texts = {
  -- the journal
  { name = "journal_read.c: a record's digest is not compared", file = "runtime/journal_read.c",
    find = "return memcmp(check, header + JOURNAL_HEADER - JOURNAL_CHECK, JOURNAL_CHECK) == 0;",
    becomes = "return 1;", "spec:journal" },
  { name = "journal_read.c: a record's sequence is not compared", file = "runtime/journal_read.c",
    find = " || get_le(header + 8, 8) != sequence", becomes = "", "spec:journal" },
  { name = "journal_read.c: two histories are one", file = "runtime/journal_read.c",
    find = "found_size != *size || memcmp(*record, data, *size) != 0", becomes = "false",
    "spec:journal" },
  { name = "journal_read.c: nothing is ever lost", file = "runtime/journal_read.c",
    find = "int lost = may_be_lost(j, copies);", becomes = "int lost = 0; (void)may_be_lost;",
    "spec:journal" },
  -- what a caller expects of a path
  { name = "transaction.c: what is there need not be what was expected",
    file = "runtime/transaction.c", find = "const char *problem = disagreement(L, "
      .. "transaction_last(t), options);", becomes = "const char *problem = NULL; "
      .. "(void)disagreement;", "spec:transaction", "spec:change" },
  { name = "durable.c: a rename replaces what it may not", file = "runtime/durable.c",
    find = "return rename_with(from_dir, from, to_dir, to, RENAME_NOREPLACE);",
    becomes = "return rename_with(from_dir, from, to_dir, to, 0);", "spec:integration/race:" },
  -- sealed documents
  { name = "seal.lua: the digest is not compared", file = "lua/praxlua/seal.lua",
    find = "if core.hash.sha256(head) ~= hash then", becomes = "if false then", "spec:seal" },
  { name = "seal.lua: the length is not compared", file = "lua/praxlua/seal.lua",
    find = "if math.tointeger(tonumber(last:match('\\n  \"length\": (%d+),\\n$'))) ~= #text then",
    becomes = "if false then", "spec:seal" },
  { name = "seal.lua: every damaged document is an older one", file = "lua/praxlua/seal.lua",
    find = "if seal.is_older(dict) then return dict, false end",
    becomes = "if dict then return dict, false end", "spec:seal" },
  -- backups
  { name = "manifest.lua: the digest is not compared", file = "lua/praxlua/backup/manifest.lua",
    find = "if digest(dict) ~= dict.manifest_sha256 then", becomes = "if false then",
    "spec:backup" },
  { name = "store.lua: the archive need not be the file that was written",
    file = "lua/praxlua/backup/store.lua", find = "if read.archive_sha256 ~= m.archive.sha256 or "
      .. "read.archive_bytes ~= m.archive.bytes then", becomes = "if false then", "spec:backup" },
  { name = "store.lua: the requirements need not be those of the manifest",
    file = "lua/praxlua/backup/store.lua", find = "if sha256 ~= m.requirements_sha256 then",
    becomes = "if false then", "spec:backup" },
  { name = "scope.lua: the content is not compared", file = "lua/praxlua/backup/scope.lua",
    find = "return wanted.sha256 ~= entry.sha256 and", becomes = "return false and",
    "spec:backup" },
  { name = "restore.lua: what came of it is not looked at", file = "lua/praxlua/backup/restore.lua",
    find = "ok, message, code = check_result(ctx, wanted, kept)",
    becomes = "ok = check_result ~= nil", "spec:backup" },
  { name = "restore.lua: another archive may be unpacked than was verified",
    file = "lua/praxlua/backup/restore.lua",
    find = "if unpacked.archive_sha256 ~= m.archive.sha256 then", becomes = "if false then",
    "spec:backup" },
  -- git
  { name = "commit.lua: git syncs nothing", file = "lua/praxlua/report/commit.lua",
    find = 'local DURABLE = "core.fsync=all"', becomes = 'local DURABLE = "core.fsync=none"',
    "spec:report:reaches the disk" },
  -- content
  { name = "execution.lua: any plan is the one the session began with",
    file = "lua/praxlua/execution.lua",
    find = "if data and core.hash.sha256(data) ~= r.session.metadata.plan_sha256 then",
    becomes = "if false then", "spec:unfinished" },
  { name = "content.lua: code of the server need not be what is shipped",
    file = "lua/praxlua/content.lua", find = "if not check.verified then",
    becomes = "if false then", "spec:content" },
  { name = "content.lua: what was written is not read back", file = "lua/praxlua/content.lua",
    find = "function() return verify(ctx, selected) end,",
    becomes = "function() return verify ~= nil end,", "spec:content" },
}

-- ---------------------------------------------------------------------------------------------
-- The list

local by_site

-- All calls of guards in the sources, by name.
local function all_sites()
  if by_site then return by_site end
  by_site = {}
  local all = { ["^runtime/.*%.c$"] = c_guards, ["^lua/.*%.lua$"] = lua_guards }
  for pattern, guards in pairs(all) do
    local names = {}
    for name in pairs(guards) do names[#names + 1] = name end
    for _, path in ipairs(sources.list(pattern)) do
      for _, site in ipairs(sites.of(path, sources.read(path), names)) do
        by_site[sites.name(site)] = site
      end
    end
  end
  return by_site
end

local function occurrences(text, piece)
  local count, at, first = 0, 1, nil
  while true do
    local from, stop = text:find(piece, at, true)
    if not from then return count, first end
    first = first or { from = from, stop = stop }
    count, at = count + 1, stop + 1
  end
end

--- The source file of a mutant as the mutant has it.
---@param mutant table of mutants.list
---@return string|nil text
---@return string? problem it does not apply any more
function mutants.apply(mutant)
  if mutant.find then
    local text = sources.read(mutant.file)
    local count, piece = occurrences(text, mutant.find)
    if count == 1 then return sites.replaced(text, piece, mutant.becomes) end
    return nil, ("what it replaces occurs %d times in %s"):format(count, mutant.file)
  end
  local site = all_sites()[mutant.name]
  if not site then return nil, "there is no such call any more" end
  return sites.replaced(sources.read(site.file), site, mutant.becomes)
end

-- The guards that are not called anywhere.
local function unused()
  local used, found = {}, {}
  for _, site in pairs(all_sites()) do used[site.guard] = true end
  for _, guards in ipairs({ c_guards, lua_guards }) do
    for name in pairs(guards) do
      if not used[name] then found[#found + 1] = { name = name, why = "is called nowhere" } end
    end
  end
  return found
end

--- The calls of guards without a mutant, the rows without a call, and the guards without one.
---@return { name: string, why: string }[]
function mutants.missing()
  local known, problems = {}, unused()
  for _, mutant in ipairs(mutants.list) do
    if known[mutant.name] then problems[#problems + 1] = { name = mutant.name, why = "twice" } end
    known[mutant.name] = true
  end
  for name, why in pairs(without) do
    known[name] = why
    if not all_sites()[name] then problems[#problems + 1] = { name = name, why = "is no call" } end
  end
  for name in pairs(all_sites()) do
    if not known[name] then
      problems[#problems + 1] = { name = name, why = "this call has no mutant in mutants.lua" }
    end
  end
  table.sort(problems, function(a, b) return a.name < b.name end)
  return problems
end

--- The calls that no mutant is made of, with the reasons.
---@return string[]
function mutants.without()
  local list = {}
  for name, why in pairs(without) do list[#list + 1] = name .. ": " .. why end
  table.sort(list)
  return list
end

--- The mutant of a name.
---@param name string
---@return table
function mutants.named(name)
  for _, mutant in ipairs(mutants.list) do
    if mutant.name == name then return mutant end
  end
  error("no mutant is called " .. name)
end

-- One row or text as a mutant { name, file, find?, becomes, caught_by }.
local function mutant_of(row)
  local name = row.name or row[1]
  local caught_by = table.move(row, row.name and 1 or 2, #row, 1, {})
  if row.find then
    return { name = name, file = row.file, find = row.find, becomes = row.becomes,
      caught_by = caught_by }
  end
  local guard = name:match("([^/]*)$"):gsub("%d+$", "")
  local site = all_sites()[name]
  return { name = name, file = site and site.file,
    becomes = row.becomes or c_guards[guard] or lua_guards[guard],
    caught_by = caught_by }
end

mutants.list = {}
for _, kind in ipairs({ rows, texts }) do
  for _, row in ipairs(kind) do mutants.list[#mutants.list + 1] = mutant_of(row) end
end

return mutants
