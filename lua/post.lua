-- post(run, log, wakes, leases; record, now, wake) -> 1 | 0 where there is no such run or it is over | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- It wakes a run that waits or is held; any with wake '1'.

local run, wakes, leases = KEYS[1], KEYS[3], KEYS[4]
local head, wrong = read(run)
if wrong then return 'corrupt: ' .. wrong end
if not head or head.over then return 0 end
wrong = damage(head, KEYS[2])
if wrong then return 'corrupt: ' .. wrong end

local id = id_of(run)
local from, before = place(head, id, wakes, leases)
if ARGV[3] == '1' or head.status == 'waiting' or head.token ~= '' then
  local now = math.max(0, math.min(ARGV[2], clock()))
  if head.wake == '' or tonumber(head.wake) > now then head.wake = digits(now) end
end
redis.call('RPUSH', KEYS[2], ARGV[1])
head.records, head.bytes = head.records + 1, head.bytes + #ARGV[1]
redis.call('HSET', run, 'head', lines_of(head))
move(from, before, place(head, id, wakes, leases))
return 1
