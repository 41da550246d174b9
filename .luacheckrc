std = "lua54"
max_line_length = 100
cache = false

files["spec/**/*_spec.lua"] = { std = "lua54+busted" }
-- What a phase script sees beside the standard library's harmless part; worker.lua makes it.
local prelude = {
  "integer", "number", "string_of", "boolean", "any", "array_of", "map_of", "optional", "nullable",
  "object", "need", "receipts_of", "answer_of", "KiB", "MiB", "GiB",
}
files["phases"] = { read_globals = prelude }
files["lua/praxlua/worker.lua"] = { globals = prelude }
-- Annotations: functions without bodies.
files["lua/praxlua/meta"] = { globals = prelude, ignore = { "212", "221", "241", "211" } }
files["rocks"] = { std = "rockspec" }
files["**/*.rockspec"] = { std = "rockspec" }
