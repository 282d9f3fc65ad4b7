-- candidates(wakes, leases; now, limit, past, behind, workflow, …) -> entries of leases, entries of wakes
--
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- The earliest entries that are due, at least `limit` of them where there are as many: expired leases, then wakes
-- up to now; of leases those behind `past`, of wakes those behind `behind` (time \n id; '' for the first). Without
-- workflows, of all. Several workflows are not sorted into each other: Lua compares text by the server's locale.
-- Tabs part the entries of an answer, which is cheaper to read than a list of them.

local now, limit, named = tonumber(ARGV[1]), tonumber(ARGV[2]), {unpack(ARGV, 5)}

-- Entries of one workflow up to a time, with these times. One that is no entry is dropped.
local function range(index, name, from, upto, found, times)
  from = from == '' and '[' .. name .. '\n' or '(' .. name .. '\n' .. from
  upto = '(' .. name .. '\n' .. digits(upto) .. '\11'
  for _, entry in ipairs(redis.call('ZRANGEBYLEX', index, from, upto, 'LIMIT', 0, limit)) do
    local time = string.match(entry, '^[^\n\t]+\n(%d+)\n[^\t]+$')
    if time then
      found[#found + 1], times[#times + 1] = entry, tonumber(time)
    else
      redis.call('ZREM', index, entry)
    end
  end
end

-- Each workflow is asked only for what is not later than `limit` entries found before.
local function earliest(index, from, upto)
  local found, times = {}, {}
  if upto < 0 then return found end
  for _, name in ipairs(#named > 0 and named or workflows(index)) do
    range(index, name, from, upto, found, times)
    if #times >= limit then
      table.sort(times)
      upto = times[limit]
      for at = #times, limit + 1, -1 do times[at] = nil end
    end
  end
  return found
end

local expired = earliest(KEYS[2], ARGV[3], clock())
local woken = #expired < limit and earliest(KEYS[1], ARGV[4], now) or {}
return {table.concat(expired, '\t'), table.concat(woken, '\t')}
