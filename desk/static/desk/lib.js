// The two libraries, and a cell: a value that components redraw for.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm-3.1.1.js";

export { html, render, useEffect, useRef, useState };

export const setup = JSON.parse(document.getElementById("setup").textContent);

export function cell(value) {
  const listeners = new Set();
  return {
    get value() {
      return value;
    },
    set(next) {
      value = typeof next === "function" ? next(value) : next;
      for (const listener of [...listeners]) listener(value);
    },
    patch(changes) {
      this.set({ ...value, ...changes });
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The value of a cell; the component is drawn again when it changes. It listens as soon as it is
 *  drawn: an effect comes after the paint, and what changes until then would not be seen. */
export function useCell(source) {
  const [, redraw] = useState(0);
  useLayoutEffect(() => source.listen(() => redraw((n) => n + 1)), [source]);
  return source.value;
}

/** Calls `work` now and every `seconds` while the page is seen, and at once when it is again. */
export function useRepeat(work, seconds, reasons = []) {
  useEffect(() => {
    let timer = 0;
    const begin = () => {
      clearInterval(timer);
      if (document.hidden) return;
      work();
      timer = setInterval(work, seconds * 1000);
    };
    begin();
    document.addEventListener("visibilitychange", begin);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", begin);
    };
  }, [seconds, ...reasons]);
}

/** The time in ms, drawn again every `seconds`. */
export function useNow(seconds) {
  const [now, setNow] = useState(Date.now());
  useRepeat(() => setNow(Date.now()), seconds);
  return now;
}
