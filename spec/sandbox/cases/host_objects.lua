--- What a phase can do to the host with the calls it has, and to what the host gives it.
local command = require("spec.support.command")
local helper = require("spec.support.helper")

local function code_is(code)
  return function(t)
    return t.evidence.a ~= code and ("the code is %s"):format(tostring(t.evidence.a)) or nil
  end
end

local function grants_refused(id, hole, grants, message)
  return { id = id, hole = hole, grants = grants, expect = "refused", message = message,
    body = "return {}" }
end

return {
  { id = "H01", hole = "a path that is no string is taken for one", expect = "ok",
    grants = { target = "write", project = "write", source = "read" },
    body = [[
      local taken = {}
      for _, root in ipairs({ "target", "project", "source" }) do
        for verb, ask in pairs(host[root]) do
          for _, path in ipairs({ false, 1, 1.5, {}, "" }) do
            if pcall(ask, path, "x") then
              taken[#taken + 1] = root .. "." .. verb .. " " .. type(path)
            end
          end
        end
      end
      return { a = taken }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, ", ") or nil end },
  { id = "H02", hole = "a verb without any grant acts", expect = "denied:grant",
    message = 'ask for grants = { target = "write" }',
    body = "host.target.write('file', 'changed') return {}" },
  { id = "H03", hole = "pcall swallows the refusal of a call, and the phase tries the next one",
    expect = "denied:grant", message = "host.lock.release was not granted",
    body = "while true do pcall(host.lock.release) end" },
  { id = "H04", hole = "a call of the host from inside a coroutine mixes up the answers",
    grants = { target = "read" }, expect = "ok",
    body = [[
      local results = {}
      local threads = {}
      for i = 1, 5 do
        threads[i] = coroutine.wrap(function()
          coroutine.yield()
          results[i] = host.json.decode("[" .. i .. "]")[1]
        end)
        threads[i]()
      end
      for i = 5, 1, -1 do threads[i]() end
      return { a = table.concat(results, "") }
    ]], check = code_is("12345") },
  { id = "H05", hole = "JSON nested deeply crashes the reader of the host", expect = "ok",
    body = [[
      local value, message, code = host.json.decode(("["):rep(200000))
      return { a = value == nil and message ~= nil, b = code }
    ]],
    check = function(t) return t.evidence.a ~= true and "it was read" or nil end },
  { id = "H06", hole = "a table in itself sends the writer of JSON into a circle", expect = "ok",
    body = "local t = {} t.t = t return { a = pcall(host.json.encode, t) }",
    check = function(t) return t.evidence.a ~= false and "it was written" or nil end },
  { id = "H07", hole = "a number beyond all bounds comes out of JSON as infinite", expect = "ok",
    body = [[
      local found = {}
      for _, text in ipairs({ "1e999", "-1e999", "[1e400]", "NaN", "Infinity", "[nan]", "0x10" }) do
        if host.json.decode(text) ~= nil then found[#found + 1] = text end
      end
      return { a = found }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, " ") or nil end },
  { id = "H08", hole = "a short JSON text makes an answer with more values than the worker may get",
    expect = { "ok", "limit:memory", "limit:instructions" }, limits = { memory = 64 << 20 },
    body = [[
      local value, _, code = host.json.decode("[" .. ("0,"):rep(1500000) .. "0]")
      return { a = value == nil, b = code }
    ]],
    check = function(t) return t.evidence and not t.evidence.a and "it arrived" or nil end },
  { id = "H09", hole = "two values under one key in JSON: the later one wins unseen", expect = "ok",
    body = "return { a = host.json.decode('{\"a\":1,\"a\":2}') == nil }",
    check = function(t) return not t.evidence.a and "it was read" or nil end },
  { id = "H10", hole = "a table given to log is shown with the supervisor's own address",
    expect = { "ok", "error" },
    body = [[
      pcall(host.log, {}) pcall(host.warn, {}) pcall(host.progress, {}, {})
      return {}
    ]],
    check = function(t)
      for _, text in ipairs(t.told) do
        if tostring(text):find("0x", 1, true) then return text end
      end
    end },
  { id = "H11",
    hole = "a limit of bytes that is negative, a fraction or a text reads the whole file",
    grants = { target = "read" }, expect = "ok",
    body = [[
      local taken = {}
      for _, limit in ipairs({ -1, 1.5, "10", math.mininteger, {} }) do
        if pcall(host.target.read, "file", limit) then taken[#taken + 1] = tostring(limit) end
      end
      return { a = taken, b = host.target.read("file", 3) == nil }
    ]],
    check = function(t)
      return (#t.evidence.a > 0 or not t.evidence.b) and table.concat(t.evidence.a, " ") .. " taken"
        or nil
    end },
  { id = "H12", hole = "a call with a hundred thousand arguments breaks the supervisor",
    expect = { "ok", "error" }, limits = { memory = 64 << 20 },
    body = [[
      local many = {}
      for i = 1, 100000 do many[i] = i end
      pcall(host.json.encode, table.unpack(many))
      return { a = host.time() ~= nil }
    ]],
    check = function(t) return t.evidence and not t.evidence.a and "no time" or nil end },
  { id = "H13", hole = "a phase changes what the host keeps of earlier phases", expect = "ok",
    first = "host.artifacts['0'].source_version = 'forged' host.options.token = 'forged'",
    body = "return { a = host.artifacts['0'].source_version, b = host.options.token ~= 'forged' }",
    check = function(t)
      return (t.evidence.a ~= "2.0.0" or not t.evidence.b) and "it was changed" or nil
    end },
  { id = "H14", hole = "a service acts in a dry run", dry = true,
    grants = { services = { "content" } },
    expect = "ok", body = "return { a = select(3, host.content.upgrade()) }",
    check = code_is("EDENIED") },
  { id = "H15", hole = "files can be changed before there is a backup", completed = { 0 },
    grants = { target = "write" }, expect = "ok",
    body = "return { a = select(3, host.target.write('file', 'x')) }", check = code_is("EDENIED") },
  { id = "H16", hole = "files can be changed when the run is over", completed = { 0, 1, 2, 3, 4,
    5 },
    grants = { target = "write" }, expect = "ok",
    body = "return { a = select(3, host.target.write('file', 'x')) }", check = code_is("EDENIED") },
  grants_refused("H17", "a grant for a service that there is not", { services = { "os" } },
    "grants%.services"),
  grants_refused("H18", "a kind of access that there is not", { target = "admin" },
    "grants%.target"),
  grants_refused("H19", "a grant under a name that nobody checks", { everything = true },
    "grants%.everything"),
  grants_refused("H20", "the source opened for writing", { source = "write" }, "grants%.source"),
  grants_refused("H21", "a tool by a path, which names another program than it seems",
    { tools = { "../../bin/sh" } }, "tools"),
  { id = "H22", hole = "arguments of services that nobody expects break the supervisor",
    grants = { services = { "validation", "backup", "server", "report", "dependencies" } },
    expect = "ok", limits = { wall = 30, instructions = 50000000 },
    body = [[
      local odd = { "", "a\0b", "../../outside", ("x"):rep(100000), -1, 1.5, math.maxinteger, {},
        { { { {} } } }, true }
      local calls = { host.validation.check_disk_space, host.validation.verify_checksums,
        host.validation.check_backups, host.backup.verify_backup_integrity,
        host.backup.list_backups, host.server.log_errors_since,
        host.dependencies.detect_post_install_steps, host.report.generate_validation_report,
        host.report.append_to_update_log, host.report.update_installation_summary }
      local count = 0
      for _, ask in ipairs(calls) do
        for _, value in ipairs(odd) do
          pcall(ask, value, value)
          count = count + 1
        end
      end
      return { a = count }
    ]], check = code_is(100) },
  { id = "H23", hole = "the name of a backup leads out of the folder of backups",
    grants = { services = { "backup" } }, expect = "ok",
    prepare = function(s)
      helper.write(s.project .. "/elsewhere/2025-02-02-000000/MANIFEST.json", "{}")
      os.execute(("cd %s && ln -s ../../elsewhere/2025-02-02-000000 .backups"):format(
        command.quote(s.target)))
    end,
    body = [[
      local opened = {}
      for _, name in ipairs({ "../../elsewhere/2025-02-02-000000", "2025-02-02-000000",
        "../../../outside", "/", "." }) do
        if host.backup.verify_backup_integrity(name) then opened[#opened + 1] = name end
      end
      return { a = opened }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, " ") or nil end },
  { id = "H24", hole = "a line of the log of upgrades is forged through a version with line ends",
    grants = { services = { "report" }, target = "read" }, expect = "ok",
    body = [[
      need(host.report.append_to_update_log("2.0.0\n2020-01-01 00:00:00 | v9.9.9 | forged | \27[2J",
        { commit = "a\n|b" }))
      return { a = host.target.read("UPDATE_LOG.txt") }
    ]],
    check = function(t)
      local _, lines = t.evidence.a:gsub("\n", "")
      return (lines ~= 1 or t.evidence.a:find("\27", 1, true)) and t.evidence.a or nil
    end },
  { id = "H25", hole = "an answer larger than a frame ends the supervisor instead of the call",
    grants = { target = "read" }, expect = { "ok", "limit:memory" },
    limits = { memory = 200 << 20 },
    prepare = function(s)
      os.execute("truncate -s 64M " .. command.quote(s.target .. "/large"))
    end,
    body = [[
      local data, _, code = host.target.read("large", 100 << 20)
      return { a = data == nil, b = code }
    ]],
    check = function(t) return t.evidence and not t.evidence.a and "it arrived" or nil end },
  { id = "H26", hole = "functions that a phase puts into the host table are called by the host",
    expect = "ok", grants = { target = "read" },
    body = [[
      local reached = false
      for name in pairs(host) do
        if name ~= "artifacts" and name ~= "options" then
          host[name] = function() reached = true return "forged" end
        end
      end
      setmetatable(host, { __index = function() reached = true end,
        __tostring = function() reached = true return "" end })
      return { a = reached }
    ]], check = code_is(false) },
  { id = "H27", hole = "a fraction that is no fraction breaks what shows the progress",
    expect = "ok",
    body = [[
      for _, fraction in ipairs({ "1e999", -1, 1e308, math.mininteger, "0x7fffffffffffffff",
        "" }) do
        host.progress("x", fraction)
      end
      return { a = host.time() ~= nil }
    ]], check = code_is(true) },
  { id = "H28", hole = "a name in a message of the host's own forges lines and sequences",
    grants = { target = "read" }, expect = "error",
    body = "need(host.target.read('none\\27[2J\\nFORGED'))" },
}
