// An order engine in Node that promises nothing: no claim, fence, limit, idempotency or replay, and
// whoever kills it loses what it holds. Each state is a row, stored with its event in one statement
// and published. tests/bench/beside.py starts `node engine.js web` and `node engine.js worker`.
"use strict";

const { randomUUID } = require("node:crypto");
const { Queue, Worker } = require("bullmq");
const Fastify = require("fastify");
const Redis = require("ioredis");
const { Pool } = require("pg");

const { DATABASE_URL, REDIS_URL, PORT } = process.env;
const QUEUE = "orders";
const IN_EXECUTION = 10;
const JOB = { removeOnComplete: true, attempts: 3, backoff: { type: "exponential", delay: 500 } };
const FEES = { raydium: 0.0025, meteora: 0.002 };
const PRICE = 150;

const ACCEPT = {
  name: "accept",
  text: `WITH o AS (
      INSERT INTO lean.orders (id, token_in, token_out, amount, slippage)
      VALUES ($1, $2, $3, $4, $5) RETURNING id, created_at
    ), e AS (
      INSERT INTO lean.events (order_id, seq, status, data) SELECT id, 1, 'pending', '{}' FROM o
    )
    SELECT created_at FROM o`,
};
const MOVE = {
  name: "move",
  text: `WITH o AS (
      UPDATE lean.orders
      SET status = $2, seq = seq + 1, updated_at = now(), venue = coalesce($3, venue),
          amount_out = coalesce($4, amount_out), tx_hash = coalesce($5, tx_hash),
          completed_at = CASE WHEN $2 = 'confirmed' THEN now() END
      WHERE id = $1 RETURNING id, seq
    )
    INSERT INTO lean.events (order_id, seq, status, data) SELECT id, seq, $2, $6::jsonb FROM o
    RETURNING seq, created_at`,
};
const BODY = {
  type: "object",
  required: ["tokenIn", "tokenOut", "amount"],
  properties: {
    tokenIn: { type: "string" },
    tokenOut: { type: "string" },
    amount: { type: "number", exclusiveMinimum: 0 },
    slippage: { type: "number", exclusiveMinimum: 0, maximum: 0.5, default: 0.01 },
  },
};

const redis = () => new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const pool = new Pool({ connectionString: DATABASE_URL, max: IN_EXECUTION });

function web() {
  const queue = new Queue(QUEUE, { connection: redis(), defaultJobOptions: JOB });
  const app = Fastify();
  app.get("/health", async () => ({ status: "ok" }));
  app.post("/api/orders/execute", { schema: { body: BODY } }, async (request, reply) => {
    const { tokenIn, tokenOut, amount, slippage } = request.body;
    const orderId = randomUUID();
    const values = [orderId, tokenIn, tokenOut, amount, slippage];
    const { rows } = await pool.query({ ...ACCEPT, values });
    await queue.add("execute", { orderId, amount, slippage });
    reply.code(201);
    return { orderId, status: "pending", timestamp: rows[0].created_at };
  });
  app.listen({ host: "127.0.0.1", port: Number(PORT) });
}

function worker() {
  const publisher = redis();

  async function move(orderId, status, data, { venue, amountOut, txHash } = {}) {
    const values = [orderId, status, venue, amountOut, txHash, JSON.stringify(data)];
    const { rows } = await pool.query({ ...MOVE, values });
    const { seq, created_at: timestamp } = rows[0];
    publisher.publish(`lean.${orderId}`, JSON.stringify({ orderId, seq, status, timestamp, data }));
  }

  async function quote(venue, amount) {
    const price = PRICE * (0.98 + 0.04 * Math.random());
    return { venue, price, amountOut: amount * price * (1 - FEES[venue]) };
  }

  async function execute({ data: { orderId, amount, slippage } }) {
    await move(orderId, "routing", {});
    const quotes = await Promise.all(Object.keys(FEES).map((venue) => quote(venue, amount)));
    const best = quotes.reduce((a, b) => (a.amountOut >= b.amountOut ? a : b));
    const minAmountOut = best.amountOut * (1 - slippage);
    await move(orderId, "building", { quotes, minAmountOut }, { venue: best.venue });
    const txHash = randomUUID();
    await move(orderId, "submitted", { txHash }, { txHash });
    await move(orderId, "confirmed", { amountOut: best.amountOut }, { amountOut: best.amountOut });
  }

  new Worker(QUEUE, execute, { connection: redis(), concurrency: IN_EXECUTION });
}

({ web, worker })[process.argv[2]]();
