// Calls: a method with its parameters, and how long the answer took.
import { page } from "/_pagewire/page.js";
import { $, answer, suggest } from "/_pagewire/view.js";

const EXAMPLES = { sum: "[1, 2, 3]", echo: '{"hello": "world"}', time: "null", sleep: '{"ms": 1000}', fail: '"on purpose"' };

suggest($("method"), $("params"), EXAMPLES);

$("call").addEventListener("submit", async (event) => {
  event.preventDefault();
  let params;
  try {
    params = JSON.parse($("params").value || "null");
  } catch (error) {
    return answer($("answer"), Promise.reject(error));
  }
  $("latency").textContent = "";
  const begun = performance.now();
  await answer($("answer"), page.call($("method").value, params), (value) => JSON.stringify(value ?? null));
  $("latency").textContent = `in ${(performance.now() - begun).toFixed(1)} ms`;
});
