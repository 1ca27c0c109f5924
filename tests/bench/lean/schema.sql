CREATE SCHEMA IF NOT EXISTS lean;
CREATE TABLE IF NOT EXISTS lean.orders (
    id text PRIMARY KEY,
    token_in text NOT NULL,
    token_out text NOT NULL,
    amount numeric NOT NULL,
    slippage numeric NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    seq int NOT NULL DEFAULT 1,
    venue text,
    amount_out numeric,
    tx_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
);
CREATE INDEX IF NOT EXISTS orders_created_at ON lean.orders (created_at);
CREATE TABLE IF NOT EXISTS lean.events (
    order_id text NOT NULL REFERENCES lean.orders (id),
    seq int NOT NULL,
    status text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, seq)
);
