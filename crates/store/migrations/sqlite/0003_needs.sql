-- What a step asks of a worker, in the words of whoever dispatches; opaque here. Empty: not kept.
ALTER TABLE steps ADD COLUMN needs TEXT NOT NULL DEFAULT '';
