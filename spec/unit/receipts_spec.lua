--- Receipts: evidence passes only where the host itself did what it claims.
local evidence = require("praxlua.evidence")
local phases = require("praxlua.phases")
local receipts = require("praxlua.receipts")
local verbs = require("praxlua.verbs")

-- Evidence and receipts of a phase that did everything it could claim.
local function honest(number)
  local claimed, noted, answers = {}, {}, {}
  for _, claim in ipairs(receipts.CLAIMS[number]) do
    claimed[claim[1]] = claim[2]
    answers[claim[3]] = answers[claim[3]] or {}
    if claim[4] then answers[claim[3]][claim[4]] = claim[2] end
  end
  for i, fact in ipairs(receipts.FACTS[number]) do
    local field, verb, inner = table.unpack(fact)
    local value = "value " .. i
    claimed[field] = value
    if inner then
      answers[verb] = answers[verb] or {}
      answers[verb][inner] = value
    else
      answers[verb] = value
    end
  end
  for verb, answer in pairs(answers) do
    noted[#noted + 1] = { verb = verb, ok = true, answer = answer }
  end
  return claimed, noted
end

local function without(noted, verb)
  local rest = {}
  for _, receipt in ipairs(noted) do
    if receipt.verb ~= verb then rest[#rest + 1] = receipt end
  end
  return rest
end

describe("receipts", function()
  for number = 0, 5 do
    describe("of phase " .. number, function()
      it("pass what was done", function()
        assert.is_true(receipts.check(number, honest(number)))
      end)

      it("stop every claim whose verb was not called, or failed", function()
        for _, claim in ipairs(receipts.CLAIMS[number]) do
          local field, value, verb = table.unpack(claim)
          local claimed, noted = honest(number)
          local ok, message, code = receipts.check(number, claimed, without(noted, verb))
          assert.is_nil(ok)
          assert.equal("ERECEIPT", code)
          assert.matches("the evidence claims ", message, 1, true)
          for _, receipt in ipairs(noted) do
            if receipt.verb == verb then receipt.ok = false end
          end
          assert.is_nil((receipts.check(number, claimed, noted)))
          claimed, noted = { [field] = value }, {}
          ok, message = receipts.check(number, claimed, noted)
          assert.is_nil(ok)
          assert.equal(("the evidence claims %s = %s, but host.%s was never done"):format(field,
            tostring(value), verb), message)
        end
      end)

      it("stop every claim that the verb's own answer denies", function()
        for _, claim in ipairs(receipts.CLAIMS[number]) do
          local field, value, verb, inner = table.unpack(claim)
          for _, denied in ipairs(inner and { false, "failed" } or {}) do
            local claimed, noted = honest(number)
            for _, receipt in ipairs(noted) do
              if receipt.verb == verb then receipt.answer[inner] = denied end
            end
            local ok, message, code = receipts.check(number, claimed, noted)
            assert.is_nil(ok)
            assert.equal("ERECEIPT", code)
            assert.equal(("the evidence claims %s = %s, but host.%s answered %s = %s"):format(field,
              tostring(value), verb, inner, tostring(denied)), message)
          end
        end
      end)

      it("let pass what claims nothing", function()
        for _, claim in ipairs(receipts.CLAIMS[number]) do
          local claimed, noted = honest(number)
          claimed[claim[1]] = nil
          local needed = false
          for _, fact in ipairs(receipts.FACTS[number]) do
            needed = needed or fact[2] == claim[3]
          end
          for _, other in ipairs(receipts.CLAIMS[number]) do
            needed = needed or other[3] == claim[3] and other[1] ~= claim[1]
          end
          if not needed then
            assert.is_true(receipts.check(number, claimed, without(noted, claim[3])))
          end
        end
      end)

      it("stop a fact that is not as the host told it", function()
        for _, fact in ipairs(receipts.FACTS[number]) do
          local claimed, noted = honest(number)
          local told = claimed[fact[1]]
          claimed[fact[1]] = "another"
          local ok, message, code = receipts.check(number, claimed, noted)
          assert.is_nil(ok)
          assert.equal("ERECEIPT", code)
          assert.equal(("the evidence says %s = another, but host.%s answered %s"):format(fact[1],
            fact[2], told), message)
          claimed[fact[1]] = nil
          assert.is_nil((receipts.check(number, claimed, noted)))
        end
      end)

      it("name fields of the evidence and verbs that its phase may call", function()
        local fields = evidence.models[number]
        local source = assert(require("praxlua.resources").source(
          "phases/" .. phases.BUILT_IN[number]))
        local phase = assert(phases.read(phases.BUILT_IN[number], source, number))
        local granted = verbs.granted({ source = "/", target = "/", project = "/",
          target_name = "x" }, phase.grants)
        for _, claim in ipairs(receipts.CLAIMS[number]) do
          assert.is_function(granted[claim[3]], claim[3])
        end
        for _, fact in ipairs(receipts.FACTS[number]) do
          assert.is_function(granted[fact[2]], fact[2])
        end
        assert.is_not_nil(fields)
      end)
    end)
  end

  it("of the last call of a verb count", function()
    local claimed = { version_updated = "2" }
    local function noted(...)
      local all = {}
      for i, version in ipairs({ ... }) do
        all[i] = { verb = "content.upgrade", ok = true, answer = { version = version } }
      end
      return all
    end
    assert.is_true(receipts.check(2, claimed, noted("1", "2")))
    assert.is_nil((receipts.check(2, claimed, noted("2", "1"))))
  end)

  it("are not asked for of other phases", function()
    assert.is_true(receipts.check(6, { lock_released = true }, {}))
  end)
end)
