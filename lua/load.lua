-- load(run, log; whole) -> {lines, snapshot, {record, …}} | nil
--
--   run  hash    the head
--   log  list    the records
--
-- One call, so that head and log are of one moment; the log only where it is asked for ('1'). What is missing is
-- false; whoever reads it judges.

local found = redis.call('HMGET', KEYS[1], 'head', 'snapshot')
if not found[1] and redis.call('EXISTS', KEYS[1]) == 0 then return false end
if ARGV[1] ~= '1' then return {found[1], found[2], {}} end
return {found[1], found[2], redis.call('LRANGE', KEYS[2], 0, -1)}
