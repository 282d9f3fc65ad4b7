-- next_wake(wakes, leases; workflow, …) -> the earliest wake, or expiry of a lease that ran out, in digits | nil
--
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- Without workflows, of all.

local now, earliest = clock(), nil

local function look(index, upto)
  for _, name in ipairs(#ARGV > 0 and ARGV or workflows(index)) do
    local entry = redis.call('ZRANGEBYLEX', index, '[' .. name .. '\n', '(' .. name .. '\11', 'LIMIT', 0, 1)[1]
    local time = entry and tonumber(string.match(entry, '\n(%d+)\n', #name + 1))
    if time and (not upto or time <= upto) and (not earliest or time < earliest) then earliest = time end
  end
end

look(KEYS[1], nil)
look(KEYS[2], now)
return earliest and digits(earliest) or false
