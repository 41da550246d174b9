--- A part of the fuzzing for `make test`: lua5.4 spec/faults/fuzz/sample.lua DIRECTORY runs the
-- program DIRECTORY/replay on the committed inputs of each target and on seeded mutations of them.
-- Prints "ok - fuzz TARGET: ..." or "not ok - ..." with what was found and where its input is.
-- Environment: SEED (1), MUTATIONS of each input (100), LONG inputs of a target (2).

local CORPUS = "spec/faults/fuzz/corpus"

local directory = assert(arg[1], "where is the program?")

local function number(name, otherwise)
  return tonumber(os.getenv(name) or "") or otherwise
end

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  return text, (pipe:close())
end

local COMMAND = "REPLAY_FINDING='%s/finding-%s' '%s/replay' --target=%s --seed=%d --mutations=%d "
  .. "--long=%d '%s/%s' 2>&1"

local all_fine = true
for name in output_of("ls " .. CORPUS):gmatch("%S+") do
  local output, fine = output_of(COMMAND:format(directory, name, directory, name,
    number("SEED", 1), number("MUTATIONS", 100), number("LONG", 2), CORPUS, name))
  print(("%s - fuzz %s"):format(fine and "ok" or "not ok",
    fine and output:gsub("\n$", "") or name .. "\n" .. output))
  io.flush()
  all_fine = all_fine and fine
end
os.exit(all_fine, true)
