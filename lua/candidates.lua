-- candidates(wakes, leases; now, limit, skip, past, behind, workflow, …) -> entries of leases, entries of wakes
--
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- The earliest entries that are due, at least `limit` of them where there are as many: expired leases, then wakes
-- up to now; of leases those behind `past`, of wakes those behind `behind` (time \n id; '' for the first); but for the
-- first `skip` of each index, or thereabouts. Without workflows, of all. Several workflows are not sorted into each
-- other: Lua compares text by the server's locale. Tabs part the entries, which is cheaper to read than a list.

local now, limit, skip, named = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {unpack(ARGV, 6)}

-- The next entries of one workflow up to a time. One that is no entry is dropped, and counts for nothing.
local function fetch(index, flow, upto, count, found, times)
  local rows = redis.call('ZRANGEBYLEX', index, flow.from, '(' .. flow.name .. '\n' .. digits(upto) .. '\11', 'LIMIT',
                          flow.skip, count)
  for _, entry in ipairs(rows) do
    local time = string.match(entry, '^[^\n\t]+\n(%d+)\n[^\t]+$')
    if time then
      found[#found + 1], times[#times + 1], flow.count = entry, tonumber(time), flow.count + 1
    else
      redis.call('ZREM', index, entry)
    end
  end
  flow.from, flow.skip = '(' .. (rows[#rows] or ''), 0
  flow.done = #rows < count or flow.count >= limit
end

-- The first of all these workflows. Each gives its share, then as much more as is not later than `limit` others.
local function earliest(index, past, upto)
  local found, times, flows = {}, {}, {}
  local names = upto < 0 and {} or #named > 0 and named or workflows(index)
  for at, name in ipairs(names) do
    local from = past == '' and '[' .. name .. '\n' or '(' .. name .. '\n' .. past
    flows[at] = {name = name, from = from, skip = math.floor(skip / #names), count = 0}
  end
  local open, share = #flows > 0, math.ceil(limit / #flows)
  while open do
    open = false
    for _, flow in ipairs(flows) do
      if not flow.done then
        fetch(index, flow, upto, share, found, times)
        open = open or not flow.done
      end
    end
    if #times >= limit then
      table.sort(times)
      upto = times[limit]
    end
  end
  return found
end

local expired = earliest(KEYS[2], ARGV[4], clock())
local woken = #expired < limit and earliest(KEYS[1], ARGV[5], now) or {}
return {table.concat(expired, '\t'), table.concat(woken, '\t')}
