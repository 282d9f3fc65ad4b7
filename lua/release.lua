-- release(run, wakes, leases; token, wake) -> nil | "corrupt: …"
--
--   run     hash    the head
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- Due at the wake given, else ('') at its own, else, if it is running, at its last change.

local run, wakes, leases = KEYS[1], KEYS[2], KEYS[3]
local head, wrong = read(run)
if wrong then return 'corrupt: ' .. wrong end
if not head or head.token ~= ARGV[1] then return false end

local id = id_of(run)
local from, before = place(head, id, wakes, leases)
if ARGV[2] ~= '' then
  head.wake = digits(ARGV[2])
elseif head.wake == '' and head.status == 'running' then
  head.wake = head.updated
end
head.token, head.expires = '', '0'
redis.call('HSET', run, 'head', lines_of(head))
move(from, before, place(head, id, wakes, leases))
return false
