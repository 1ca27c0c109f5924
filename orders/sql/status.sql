-- What a row of an event and of an order must be: the CHECKs `legal_move` and `status_fits`.
--
-- They are functions, and of plpgsql, because PostgreSQL reads and plans a CHECK anew for every
-- statement: said at length it took 75 µs of each move and each claim, these take 20.

-- `models.TRANSITIONS`, and the first event. tests/engine/test_lifecycle.py compares them.
CREATE OR REPLACE FUNCTION orders_legal_move(seq int, previous text, following text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE previous
        WHEN '' THEN seq = 1 AND following = 'pending'
        WHEN 'pending' THEN following IN ('routing', 'failed', 'cancelled', 'expired')
        WHEN 'routing' THEN following IN ('routing', 'building', 'pending', 'failed')
        WHEN 'building' THEN following IN ('submitted', 'routing', 'pending', 'failed')
        WHEN 'submitted' THEN following IN ('confirmed', 'pending', 'failed')
        ELSE false
    END;
END $$;

-- An order has a lease while it is in execution, and a time of its end once it has ended.
CREATE OR REPLACE FUNCTION orders_status_fits(
    status text, lease_until timestamptz, completed_at timestamptz
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE
        WHEN status = 'pending' THEN lease_until IS NULL AND completed_at IS NULL
        WHEN status IN ('routing', 'building', 'submitted')
            THEN lease_until IS NOT NULL AND completed_at IS NULL
        WHEN status IN ('confirmed', 'failed', 'cancelled', 'expired')
            THEN lease_until IS NULL AND completed_at IS NOT NULL
        ELSE false
    END;
END $$;
