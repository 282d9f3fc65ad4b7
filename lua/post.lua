-- post(run, log, wakes, leases; record, now, wake) -> 1 | 0 where there is no such run or it is over | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- It wakes a run that waits or is held; any with wake '1'.

local head, wrong = read(KEYS[1])
local records, unreadable = length(KEYS[2])
if wrong or unreadable then return 'corrupt: ' .. (wrong or unreadable) end
if not head or OVER[head.status] then return 0 end

local id = id_of(KEYS[1])
local from, before = stand(head, id, KEYS[3], KEYS[4])
if ARGV[3] == '1' or head.status == 'waiting' or head.token ~= '' then
  local now = math.max(0, math.min(tonumber(ARGV[2]), clock()))
  head.wake = math.min(head.wake or now, now)
end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'wake', head.wake and whole(head.wake) or '', 'bytes', whole(head.bytes + #ARGV[1]))
move(from, before, stand(head, id, KEYS[3], KEYS[4]))
return 1
