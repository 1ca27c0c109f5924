// The venues side by side, the best one marked.
import { html } from "./lib.js";
import { amount, bpsAbove, isMore, percent, short, venueName } from "./format.js";

/** `route` is the answer of POST /api/quotes, or the data of a `building` event. */
export function Quotes({ route, tokenIn, tokenOut }) {
  const given = route.quotes.filter((quote) => quote.amountOut);
  const best = given.reduce((a, b) => (!a || isMore(b.amountOut, a.amountOut) ? b : a), null);
  return html`
    <div class="quotes"><table>
      <thead><tr><th>Venue</th><th>${route.legs?.length > 1 ? "Alone" : "You receive"}</th><th>Price</th><th>Fee</th><th>Impact</th></tr></thead>
      <tbody>
        ${route.quotes.map((quote) => html`
          <${Row} key=${quote.venue} quote=${quote} best=${best} route=${route} tokenIn=${tokenIn} tokenOut=${tokenOut} />`)}
      </tbody>
    </table></div>
    ${route.legs?.length > 1 && html`<p>${route.legs.map((leg) => `${venueName(leg.venue)} ${amount(leg.amountIn, tokenIn)}`).join(" + ")}</p>`}`;
}

function Row({ quote, best, route, tokenIn, tokenOut }) {
  const name = venueName(quote.venue);
  const chosen = route.venue.split("+").includes(quote.venue);
  const tag = chosen && html`<span class="tag">✓ ${route.legs?.length > 1 ? "part" : "chosen"}</span>`;
  if (quote.error) return html`
    <tr class=${chosen ? "chosen" : ""} data-venue=${quote.venue}>
      <th scope="row">${name} <small>${tag}</small></th><td colspan="4" class="error">${quote.error.detail.replace(`${quote.venue}: `, "")}</td></tr>`;
  const behind = quote !== best && bpsAbove(best.amountOut, quote.amountOut);
  return html`
    <tr class=${chosen ? "chosen" : ""} data-venue=${quote.venue}>
      <th scope="row">${name}
        <small>${tag}${tag && " · "}${quote.curve}</small></th>
      <td class="out">${short(quote.amountOut)} <small>${behind ? `−${behind} bps` : "best"}</small></td>
      <td data-label="price">${short(quote.effectivePrice)}</td>
      <td data-label="fee">${short(quote.fee, 4)} <small>${quote.feeToken}</small></td>
      <td data-label="impact">${percent(quote.priceImpact, 3)}</td>
    </tr>`;
}
