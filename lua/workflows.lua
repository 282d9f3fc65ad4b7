-- The workflows that have entries in an index, by one step for each; for candidates.lua and next_wake.lua.

local function workflows(index)
  local names, from = {}, '-'
  while true do
    local entry = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, 1)[1]
    if not entry then return names end
    names[#names + 1] = string.match(entry, '^[^\n]*')
    from = '[' .. names[#names] .. '\11'
  end
end
