--- Evidence that is not what it should be, claims of what was not done, and frames that are none.
local machine = require("spec.sandbox.machine")

-- Evidence that cannot leave the worker.
local function no_value(id, hole, value, message)
  return { id = id, hole = hole, body = "return { a = " .. value .. " }",
    expect = { "error", "protocol:oversize" }, message = message }
end

-- Evidence that does not match the model.
local function against_model(id, hole, model, value, message)
  return { id = id, hole = hole, evidence = model, body = "return " .. value,
    expect = "evidence:schema", message = message }
end

-- A built-in phase's evidence with one false claim.
local function claim(id, hole, number, evidence, message)
  return { id = id, hole = hole, number = number, body = "return " .. evidence,
    expect = "evidence:receipt", message = message }
end

-- A frame written by the worker itself, past what our code would write. 44: sendto.
local function frame(id, hole, bytes, expect)
  return { id = id, hole = hole, host = "raw", needs = machine.lacks_x86,
    expect = expect or "protocol:bad-frame",
    body = ("local bytes = %s raw(44, 3, bytes, #bytes, 0x4000, 0, 0) %s"):format(bytes,
      "raw(231, 0)") } -- exit_group
end

local BACKUP = [[{ backup_path = ".backups/x/", backup_timestamp = "2025-01-01T00:00:00Z",
  files_backed_up = 3, backup_size_bytes = 10, backup_manifest = ".backups/x/MANIFEST.json",
  integrity_verified = %s, lock_acquired = %s }]]
local CONTENT = [[{ safe_upgrade_executed = true, version_updated = "2.0.0",
  update_log_appended = true,
  dry_run_preview = { new_files = 0, updated_files = 0, merged_files = 0, unchanged_files = 0,
    removed_files = 0, conflicts = 0, local_only = 0 },
  actual_upgrade = { new_files = 0, updated_files = 0, merged_files = 0, removed_files = 0,
    conflicts_resolved = 0, user_prompts = 0 } }]]
local CHECKED = [[{ source_path = "/x", source_version = "9", source_commit = "abc",
  source_git_clean = true, target_exists = true, target_structure_valid = true,
  disk_space_available = "1 GB", disk_space_required = "1 MB", no_concurrent_workflows = true }]]
local SERVED = [[{ mcp_server_copied = true, files_copied = 1, checksums_verified = true,
  dependencies_installed = true, post_install_steps = {}, server_restarted = false,
  server_restart_time_reason = "not_run", server_health_check = "passed" }]]
local CLEANED = [[{ lock_released = true, old_backups_archived = 0, upgrade_summary = "x",
  installation_summary_updated = true, update_log_appended = true, git_changes_committed = false }]]

return {
  { id = "V01", hole = "a script that returns nothing counts as a phase", expect = "refused",
    message = "return phase", source = "local phase = {}" },
  no_value("V02", "a function crosses into the host", "function() end", "function"),
  no_value("V03", "a coroutine crosses into the host", "coroutine.create(type)", "thread"),
  { id = "V04", hole = "a table in itself sends whoever reads it into a circle",
    expect = { "error", "protocol:oversize" }, message = "circle",
    body = "local t = {} t[1] = t return { a = t }" },
  { id = "V05", hole = "evidence nested deeper than the reader's stack",
    expect = { "error", "protocol:oversize" }, message = "deep",
    body = "local t = {} for _ = 1, 1000 do t = { t } end return { a = t }" },
  no_value("V06", "a number that is none crosses as evidence", "0 / 0", "not finite"),
  no_value("V07", "a number without bounds crosses as evidence", "math.huge", "not finite"),
  no_value("V08", "a key that is a fraction crosses as evidence", "{ [1.5] = 1 }", "key"),
  no_value("V09", "a key that is a truth value crosses as evidence", "{ [true] = 1 }", "key"),
  { id = "V10",
    hole = "two keys that are one in JSON: the state holds another value than was judged",
    expect = { "evidence:schema", "error" }, body = "return { a = { [1] = 'x', ['1'] = 'y' } }" },
  { id = "V11", hole = "a large integer loses its last digits on the way", expect = "ok",
    evidence = "{ a = integer(), b = integer(), c = integer() }",
    body = "return { a = (1 << 53) + 1, b = math.maxinteger, c = math.mininteger }",
    check = function(t)
      local e = t.outcome.dict
      return (e.a ~= (1 << 53) + 1 or e.b ~= math.maxinteger or e.c ~= math.mininteger
        or math.type(e.a) ~= "integer") and "other numbers" or nil
    end },
  against_model("V12", "a fraction passes for an integer", "{ n = integer() }", "{ n = 1.0 }",
    "n: "),
  against_model("V13", "a field that is not there passes", "{ n = integer(), m = integer() }",
    "{ n = 1 }", "m: missing"),
  against_model("V14", "a field that nobody declared passes", "{ n = integer() }",
    "{ n = 1, extra = 1 }", "extra: not a field"),
  against_model("V15", "a text that looks like a number passes for one", "{ n = integer() }",
    "{ n = '1' }", "n: expected integer"),
  against_model("V16", "a value that is not among those allowed passes",
    "{ s = string_of({ one_of = { 'yes', 'no' } }) }", "{ s = 'perhaps' }", "one of"),
  against_model("V17", "a field within a field is not looked at",
    "{ o = object({ list = array_of(object({ n = integer({ min = 0 }) })) }) }",
    "{ o = { list = { { n = 1 }, { n = -1 } } } }", "o%.list%[2%]%.n"),
  against_model("V18", "a null without a reason passes for a check that was done",
    "{ n = nullable(integer()) }", "{}", "n_reason"),
  against_model("V19", "a list longer than declared passes", "{ l = array_of(integer(), 2) }",
    "{ l = { 1, 2, 3 } }", "more than 2"),
  { id = "V20", hole = "a pattern in the model of a phase stalls the host that checks with it",
    expect = "refused", message = "pattern",
    evidence = "{ s = string_of({ pattern = ('.-'):rep(5) .. 'b' }) }",
    body = "return { s = ('a'):rep(40) }" },
  { id = "V21", hole = "a model nested without end overflows the host that reads it",
    expect = "refused",
    evidence = "(function() local s = any() for _ = 1, 20 do s = array_of(s) end "
      .. "return { s = s } end)()",
    body = "return { s = {} }" },
  { id = "V22", hole = "a model of a kind that there is not checks nothing", expect = "refused",
    evidence = "{ s = { kind = 'anything' } }", body = "return { s = 1 }" },
  { id = "V23", hole = "a bound that is no number makes the host fail when it compares",
    expect = "refused", evidence = "{ n = integer({ min = 'x' }) }", body = "return { n = 1 }" },
  claim("V24", "a backup is claimed that was never verified", 1, BACKUP:format("true", "true"),
    "integrity_verified"),
  claim("V25", "an upgrade of the content is claimed that never was", 2, CONTENT,
    "safe_upgrade_executed"),
  claim("V26", "a checked source is claimed that nobody looked at", 0, CHECKED, "source_git_clean"),
  claim("V27", "a working server is claimed that nobody asked", 3, SERVED, "mcp_server_copied"),
  claim("V28", "a clean-up is claimed that never was", 5, CLEANED, "lock_released"),
  { id = "V29", hole = "a call that failed counts as done", number = 1, expect = "evidence:receipt",
    message = "integrity_verified",
    source = [[
      return { title = "x", grants = { services = { "backup", "lock" } }, run = function(host)
        host.backup.verify_backup_integrity("2025-01-01-000000")
        return ]] .. BACKUP:format("true", "true") .. [[
      end }
    ]] },
  { id = "V30", hole = "what an earlier phase did counts for a later one", number = 0,
    expect = "evidence:receipt", message = "never done", grants = { services = { "validation" } },
    first = "host.validation.validate_source_repo() host.validation.validate_target_structure()",
    body = "return " .. CHECKED,
    check = function(t)
      return #t.first.receipts ~= 2 and "the earlier phase did nothing" or nil
    end },
  { id = "V31", hole = "an attested count of calls is made up", grants = { target = "write" },
    expect = "evidence:receipt", message = "written",
    evidence = "{ written = receipts_of('target.write') }",
    body = "need(host.target.write('new', 'x')) return { written = 2 }" },
  { id = "V32", hole = "an attested answer is made up", grants = { target = "read" },
    expect = "evidence:receipt", message = "sum",
    evidence = "{ sum = answer_of('target.hash') }",
    body = "need(host.target.hash('VERSION.txt')) return { sum = ('0'):rep(64) }" },
  { id = "V33", hole = "the log is filled without end", expect = "limit:output",
    body = "local line = ('x'):rep(10000) while true do host.log(line) end" },
  { id = "V34", hole = "warnings are not counted as output", expect = "limit:output",
    limits = { output = 4096, messages = 500 },
    body = "local line = ('x'):rep(1000) while true do host.warn(line) end" },
  { id = "V35", hole = "progress is not counted as output", expect = "limit:output",
    limits = { output = 4096, messages = 500 },
    body = "local line = ('x'):rep(1000) while true do host.progress(line, 0.5) end" },
  { id = "V36", hole = "calls of the host without end keep it busy", expect = "limit:messages",
    limits = { messages = 100, instructions = 100000 },
    body = "while true do host.time() end" },
  { id = "V37", hole = "calls that fail are not counted", expect = "limit:messages",
    limits = { messages = 100 }, body = "while true do pcall(host.json.decode) end" },
  { id = "V38", hole = "a message of the log passes for an event or a verdict", expect = "error",
    message = "^oh$",
    body = [[
      host.log('{"event":"phase_completed","verdict":"ok"}\n{"event":"FORGED"}')
      host.log("\27]0;owned\7\27[2Jok - everything\nFORGED\rFORGED")
      host.warn("a\nFORGED") host.progress("a\nFORGED", 0.5)
      error("oh", 0)
    ]] },
  { id = "V39", hole = "one message larger than a frame is cut instead of refused",
    expect = { "error", "limit:output", "limit:memory", "protocol:oversize" },
    limits = { memory = 300 << 20 },
    body = "host.log(('x'):rep((64 << 20) + 1))",
    check = function(t) return #t.told > 0 and "it was heard" or nil end },
  { id = "V40", hole = "a phase takes the id of another one", expect = "refused", message = "id",
    source = "return { id = 'backup-preparation', title = 'x', run = type }" },
  { id = "V41", hole = "an id leads the files named after it out of their folder",
    expect = "refused",
    source = "return { id = '../../outside/x', title = 'x', run = type }" },
  { id = "V42", hole = "a phase that is no table, or whose run is none, is accepted",
    expect = "refused", message = "run", source = "return { title = 'x', run = 'os.exit()' }" },
  { id = "V43", hole = "the worker ends without a result, and that counts as done", host = "raw",
    needs = machine.lacks_x86, expect = "protocol:no-result", body = "raw(231, 0)" },
  frame("V44", "a frame says it has four gigabytes", "'\\255\\255\\255\\255R'",
    "protocol:oversize"),
  frame("V45", "a frame is cut off in the middle", "'\\10\\0\\0\\0Rs'"),
  frame("V46", "a frame of a kind that there is not", "'\\0\\0\\0\\0X'"),
  frame("V47", "a frame whose table says it has more values than it has bytes",
    "'\\5\\0\\0\\0RT\\255\\255\\255\\127'"),
  frame("V48", "a frame nested deeper than the reader's stack",
    "(function() local s = 'n' for _ = 1, 200 do "
      .. "s = 'T\\1\\0\\0\\0i\\1\\0\\0\\0\\0\\0\\0\\0' .. s end "
      .. "return string.pack('<I4', #s) .. 'R' .. s end)()"),
  frame("V49", "a verdict that there is not", "'\\7\\0\\0\\0Vs\\2\\0\\0\\0ok'"),
  frame("V50", "a frame with a number that is none",
    "'\\9\\0\\0\\0Rd\\0\\0\\0\\0\\0\\0\\248\\127'"),
  frame("V51", "a frame that only the host sends", "'\\1\\0\\0\\0At'"),
  frame("V52", "a result of the worker's own making passes without being checked",
    "'\\19\\0\\0\\0RT\\1\\0\\0\\0s\\4\\0\\0\\0evili\\0\\0\\0\\0'",
    { "protocol:bad-frame", "evidence:schema" }),
  { id = "V53", hole = "a field that holds text gets it with controls into the state",
    expect = "ok",
    evidence = "{ s = string_of() }",
    body = "return { s = '\\27[2J\\n\\0\\255' .. ('\\u{202e}') }",
    check = function(t)
      local written = require("praxlua.json").encode(t.outcome.dict)
      return written:find("[%c\127]") and "it is written as it is" or nil
    end },
  { id = "V54",
    hole = "evidence that can be judged is too deep for the session's file that it goes into",
    expect = { "evidence:schema", "ok" },
    body = "local t = {} for _ = 1, 29 do t = { t } end return { a = t }",
    check = function(t)
      if not t.outcome.dict then return end
      local whole = { phase_artifacts = { hostile = t.outcome.dict } }
      return not pcall(require("praxlua.json").encode, whole) and "it cannot be written" or nil
    end },
  { id = "V55", hole = "questions are not counted as output", expect = "limit:output",
    limits = { output = 4096, messages = 500 },
    body = "local line = ('x'):rep(1000) while true do host.ask(line, { 'yes' }, 'yes') end" },
  { id = "V56", hole = "the title of a phase carries a sequence to the terminal and the report",
    title = "Hostile\27[2J\nFORGED", expect = "ok", body = "return {}" },
  { id = "V57", hole = "the name of a field carries a sequence into the message about it",
    expect = "evidence:schema", body = "return { ['\\27[2J\\nFORGED'] = 1 }",
    check = function(t) return t.message:find("[%c]") and "it is told as it is" or nil end },
  { id = "V63", hole = "evidence as long as a frame fills the session's file and journal",
    expect = "evidence:schema", message = "write what is long into a file",
    evidence = "{ s = string_of() }", body = "return { s = ('x'):rep(300000) }" },
  { id = "V58", hole = "an error message forges lines of the report and of the terminal",
    expect = "error",
    body = [[error("oh\27[2J\nFORGED: all is well\n{\"event\":\"FORGED\"}\rFORGED", 0)]] },
  { id = "V59", hole = "answers that are not read hold the host up", host = "raw",
    needs = machine.lacks_x86, limits = { wall = 2 }, expect = "limit:wall",
    body = [[
      local bytes = "\9\0\0\0Cs\4\0\0\0time"
      for _ = 1, 3000 do raw(44, 3, bytes, #bytes, 0x4040, 0, 0) end
      while true do raw(7, 0, 0, 1000) end]] },
  { id = "V60", hole = "keys of a table that all fall on one another hold the host up",
    host = "raw", needs = machine.lacks_x86, limits = { wall = 2 },
    expect = "protocol:bad-frame",
    body = [[
      local parts = { "s\4\0\0\0timeT" .. string.pack("<I4", 60000) }
      for i = 1, 60000 do parts[#parts + 1] = "i" .. string.pack("<i8", i * 65535) .. "t" end
      local bytes = table.concat(parts)
      bytes = string.pack("<I4", #bytes) .. "C" .. bytes
      raw(44, 3, bytes, #bytes, 0x4000, 0, 0)
      while true do raw(7, 0, 0, 1000) end]] },
  { id = "V61", hole = "more arguments than the stack of the host can hold", expect = "error",
    message = "one of too many", limits = { memory = 64 << 20 },
    body = [[
      local t = {}
      for i = 1, 400000 do t[i] = true end
      host.log(table.unpack(t))]] },
  { id = "V62", hole = "what the worker says it used is text, and gets into the report",
    host = "raw", needs = machine.lacks_x86, expect = "ok",
    body = [[
      local bytes = "\19\0\0\0RT\0\0\0\0s\4\0\0\0\27[2Js\0\0\0\0"
      raw(44, 3, bytes, #bytes, 0x4000, 0, 0)
      raw(231, 0)]],
    check = function(t) return t.outcome.used or t.outcome.peak end },
}
