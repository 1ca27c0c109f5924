-- The simulated chain's ledger. Written by dex/simulation/chain.py and by nothing else.
-- A transaction's fate is fixed when it is sent: `outcome` holds from `settles_at` on, by this
-- database's clock; `status`, `amount_out` and `landed_at` follow when somebody asks. One that never
-- came is recorded as expired, with no `sent_at`, so that it can not come any more.
CREATE SCHEMA IF NOT EXISTS chain;

CREATE TABLE IF NOT EXISTS chain.transaction (
    signature text PRIMARY KEY,
    order_id text NOT NULL,
    attempt integer NOT NULL,
    venue text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'landed', 'failed', 'expired')),
    amount_in numeric(20, 0) NOT NULL,
    amount_out numeric(20, 0),
    error_code text NOT NULL DEFAULT '',
    error text NOT NULL DEFAULT '',
    sent_at timestamptz DEFAULT clock_timestamp(),
    settles_at timestamptz NOT NULL,
    landed_at timestamptz,
    outcome text NOT NULL CHECK (outcome IN ('landed', 'failed', 'expired')),
    outcome_amount_out numeric(20, 0)
);

CREATE INDEX IF NOT EXISTS transaction_order_id ON chain.transaction (order_id);
