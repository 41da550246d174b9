--- A busted output handler for the runner: failures in full on stdout, and one line a test in the
-- file $PRAXLUA_RESULTS ("passed|failed|skipped<TAB>name"), with "end" after the last one. A file
-- without its "end" tells that the process died.

return function(options)
  local busted = require("busted")
  local handler = require("busted.outputHandlers.base")()
  local path = assert(os.getenv("PRAXLUA_RESULTS"), "PRAXLUA_RESULTS is not set")
  local out = assert(io.open(path, "a"))
  out:setvbuf("line")

  local function record(word, name)
    out:write(word, "\t", (name:gsub("%c", " ")), "\n")
  end

  local function show(failure)
    local where = failure.element.trace or failure.trace or {}
    local message = failure.message
    if type(message) ~= "string" then message = require("pl.pretty").write(message) end
    io.write(("    FAILED %s:%s: %s\n"):format(where.short_src or "?", where.currentline or "?",
      failure.name))
    io.write((("      " .. message):gsub("\n", "\n      ")), "\n")
    if failure.isError and failure.trace and failure.trace.traceback then
      io.write((failure.trace.traceback:gsub("\n", "\n      ")), "\n")
    end
    io.flush()
  end

  local words = { success = "passed", pending = "skipped", failure = "failed", error = "failed" }

  local function test_end(element, _, status)
    record(words[status], handler.getFullName(element))
    if status == "failure" then show(handler.failures[#handler.failures]) end
    if status == "error" then show(handler.errors[#handler.errors]) end
    if status == "pending" then
      io.write(("    skipped: %s\n"):format(handler.getFullName(element)))
    end
    return nil, true
  end

  -- An error outside of a test: in a file's body, in a setup or a teardown.
  local function outside(element)
    if element.descriptor ~= "it" then
      local failure = handler.errors[#handler.errors]
      record("failed", failure.name)
      show(failure)
    end
    return nil, true
  end

  busted.subscribe({ "test", "end" }, test_end, { predicate = handler.cancelOnPending })
  busted.subscribe({ "error" }, outside)
  busted.subscribe({ "failure" }, outside)
  busted.subscribe({ "suite", "end" }, function()
    out:write("end\n")
    return nil, true
  end)

  handler.options = options
  return handler
end
