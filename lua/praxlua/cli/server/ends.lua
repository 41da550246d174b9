--- The ends of a command about the server: results for view.finish.
local ends = {}

--- Refused before anything was done.
---@param message string
---@param next_step string?
---@return table result
function ends.refused(message, next_step)
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

--- It failed, or something bad was found.
---@param message string
---@param next_step string?
---@return table result
function ends.failed(message, next_step)
  return { exit_code = 1, status = "failed", message = message, next = next_step }
end

--- The project file is wrong, and without its settings the server is not known.
---@param problem string
---@return table result
function ends.bad_settings(problem)
  return ends.refused(problem, "mend it: docs/project-file.md has all settings")
end

return ends
