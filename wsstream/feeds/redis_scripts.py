"""What Redis runs for an engine, each as one step.

A topic has three keys: its newest items, as a stream whose ids are their offsets; a hash with its epoch and
the offset of the newest item; and a hash with the keys of the items that it keeps.

A server that was restarted, or a replica that took its place, may have lost the last items, and would give
their offsets to others. So the epoch changes with the run of the server. The epochs before it are kept, each
with the last offset that it has in common with what is here now: followers who are no further go on.
"""

from __future__ import annotations

from typing import Final

__all__ = ["APPEND", "READ"]

# ARGV[1] is the epoch to begin, if one has to be.
_BEGIN: Final = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local state = redis.call('HMGET', KEYS[2], 'epoch', 'run', 'offset', 'past')
local epoch, offset, past = state[1], tonumber(state[3] or 0), state[4] or ''
if not epoch then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  epoch, offset, past = ARGV[1], 0, ''
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'run', run, 'offset', 0, 'past', past)
elseif state[2] ~= run then
  local kept = {epoch .. ':' .. string.format('%.0f', offset)}
  for name, last in string.gmatch(past, '([%w_-]+):(%d+)') do
    if #kept < 16 then
      kept[#kept + 1] = name .. ':' .. string.format('%.0f', math.min(tonumber(last), offset))
    end
  end
  epoch, past = ARGV[1], table.concat(kept, ' ')
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'run', run, 'past', past)
end
"""

APPEND: Final = (
    _BEGIN
    + """
local key, field, data, keep = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[3], key)
if known then
  return {epoch, known}
end
offset = redis.call('HINCRBY', KEYS[2], 'offset', 1)
redis.call('XADD', KEYS[1], string.format('%.0f-0', offset), 'e', epoch, field, data, 'k', key)
redis.call('HSET', KEYS[3], key, string.format('%.0f', offset))
local length = redis.call('XLEN', KEYS[1])
if length > keep then
  local surplus = math.min(length - keep, 100)
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', surplus)) do
    redis.call('HDEL', KEYS[3], entry[2][6])
  end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', length - surplus)
end
return {epoch, string.format('%.0f', offset)}
"""
)
"""ARGV: epoch, key, field, data, keep. Returns the epoch and the offset."""

READ: Final = (
    _BEGIN
    + """
local since, after, limit = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local newest = string.format('%.0f', offset)
if since == '' then
  return {epoch, newest, 1, {}}
end
local known = since == epoch and after <= offset
for name, last in string.gmatch(past, '([%w_-]+):(%d+)') do
  known = known or (name == since and after <= tonumber(last))
end
if known and after < offset then
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  known = first and tonumber(string.match(first[1], '^%d+')) <= after + 1
end
if not known then
  return {epoch, newest, 0, {}}
end
return {epoch, newest, 1, redis.call('XRANGE', KEYS[1], string.format('(%.0f-0', after), '+', 'COUNT', limit)}
"""
)
"""ARGV: epoch, epoch and offset to read after, limit. Returns epoch, newest offset, recovered, entries."""
