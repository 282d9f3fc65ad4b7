-- next_wake(wakes, leases; workflow, …) -> the earliest wake, or expiry of a lease that ran out, in digits | nil
--
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- Without workflows, of all.

local LATEST = 2 ^ 53
local now, earliest = clock(), nil

-- The first time in a workflow's line. What stands before it and is no entry is dropped; a time of other than sixteen
-- digits is none, for it stands where it does not belong, before others.
local function first(index, name)
  while true do
    local entry = redis.call('ZRANGEBYLEX', index, '[' .. name .. '\n', '(' .. name .. '\11', 'LIMIT', 0, 1)[1]
    local time = entry and string.match(entry, '^\n(%d+)\n[^\t]+$', #name + 1)
    if not entry or time and #time == 16 then return time and tonumber(time) end
    redis.call('ZREM', index, entry)
  end
end

local function look(index, upto)
  for _, name in ipairs(#ARGV > 0 and ARGV or workflows(index)) do
    local time = first(index, name)
    if time and time <= (upto or LATEST) and (not earliest or time < earliest) then earliest = time end
  end
end

look(KEYS[1], nil)
look(KEYS[2], now)
return earliest and digits(earliest) or false
