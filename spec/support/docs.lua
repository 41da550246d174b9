--- Checks the documentation against the tree: links lead somewhere, examples in Lua parse, named
-- make targets and files exist. Prints "ok - ..." and "not ok - ..." lines.

package.path = "./?.lua;" .. package.path
local sources = require("spec.support.sources")

local failed = false

local function report(name, findings)
  local good = #findings == 0
  failed = failed or not good
  print((good and "ok - " or "not ok - ") .. name)
  for _, text in ipairs(findings) do print("    " .. text) end
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- A heading's anchor, as the usual renderers make it.
local function anchor(heading)
  return (heading:gsub("`", ""):lower():gsub("[^%w%s_-]", ""):gsub("%s", "-"))
end

-- A document without its code blocks, and the blocks: { language, text, line }.
local function split(text)
  local prose, blocks, block, number = {}, {}, nil, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local fence = line:match("^%s*```(%w*)")
    if fence and not block then
      block = { language = fence, line = number, lines = {} }
    elseif fence then
      block.text = table.concat(block.lines, "\n")
      blocks[#blocks + 1], block = block, nil
    elseif block then
      block.lines[#block.lines + 1] = line
    end
    prose[#prose + 1] = (fence or block) and "" or line
  end
  return table.concat(prose, "\n"), blocks, block
end

local function anchors_of(text)
  local anchors = {}
  for heading in ("\n" .. (split(text))):gmatch("\n#+%s+([^\n]*)") do
    anchors[anchor(heading)] = true
  end
  return anchors
end

-- "a/b/../c" -> "a/c"
local function normal(path)
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." then
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return table.concat(parts, "/")
end

local function broken_links(path, prose)
  local found = {}
  for target in prose:gsub("`[^`\n]*`", ""):gmatch("%]%(([^)%s]+)[^)]*%)") do
    local file, fragment = target:match("^([^#]*)#?(.*)$")
    if not target:find("^%a+:") then
      local at = file == "" and path or normal((path:match("^(.*/)") or "") .. file)
      if not exists(at) then
        found[#found + 1] = path .. ": " .. target .. " leads nowhere"
      elseif fragment ~= "" and at:find("%.md$") and not anchors_of(sources.read(at))[fragment] then
        found[#found + 1] = path .. ": " .. at .. " has no heading #" .. fragment
      end
    end
  end
  return found
end

-- An example may be a chunk, or an expression such as a table.
local function wrong_examples(path, blocks, open)
  local found = {}
  if open then found[1] = path .. ":" .. open.line .. ": the code block has no end" end
  for _, block in ipairs(blocks) do
    if block.language == "lua" then
      local name = "=" .. path .. ":" .. block.line
      local chunk, message = load(block.text, name, "t")
      if not chunk and not load("return " .. block.text, name, "t") then
        found[#found + 1] = message
      end
    end
  end
  return found
end

local function unknown_targets(path, text)
  local makefile, found = "\n" .. sources.read("Makefile"), {}
  local function known(target)
    local word = target:gsub("%-", "%%-")
    return makefile:find("\n[%w%s-]*%f[%w-]" .. word .. "%f[^%w-][%w%s-]*:")
      or makefile:find("\nSTAGES := [^\n]*%f[%w]" .. word .. "%f[%W]")
  end
  local function look(target)
    if not known(target) then found[#found + 1] = path .. ": there is no make " .. target end
  end
  for target in text:gmatch("`make ([%l-]+)") do look(target) end
  for target in text:gmatch("\n%s*%$? ?make ([%l-]+)") do look(target) end
  return found
end

for _, path in ipairs(sources.list("%.md$")) do
  local text = sources.read(path)
  local prose, blocks, open = split(text)
  report(path .. ": links lead somewhere", broken_links(path, prose))
  if #blocks > 0 or open then
    report(path .. ": examples parse", wrong_examples(path, blocks, open))
  end
  report(path .. ": make targets exist", unknown_targets(path, text))
end

os.exit(not failed, true)
