// What the server allows this page, so that nothing is offered that it would refuse.
import { page } from "/_pagewire/page.js";

const KEYS = { write: "state.write", send: "send.allow" };
/** A page may always address itself and the pages that it shares a level with. */
const ALWAYS = { write: [], send: ["page"] };

/** Why this page cannot use a level to write or send: nothing when it can. */
function obstacle(level, what) {
  const { allow, user } = page.registered;
  const open = !allow || allow[what].includes(level) || ALWAYS[what].includes(level);
  const reasons = [];
  if (!open) reasons.push(`${KEYS[what]} does not list it`);
  if (level === "user" && !user) reasons.push("nobody is logged in: that takes a token");
  return reasons.join(", ");
}

/** Keeps a choice of levels and a hint to what this page may do; turns to the first such level when it must. */
export function offer(choice, hint, what) {
  const show = () => {
    const options = [...choice.options];
    const missing = options.map((option) => [option.value, obstacle(option.value, what)]).filter(([, why]) => why);
    for (const option of options) option.disabled = missing.some(([level]) => level === option.value);
    hint.textContent = `Not open to this page: ${missing.map(([level, why]) => `${level} (${why})`).join(", ")}`;
    hint.hidden = missing.length === 0;
    const first = options.find((option) => !option.disabled);
    if (!first || !choice.selectedOptions[0]?.disabled) return;
    choice.value = first.value;
    choice.dispatchEvent(new Event("change"));
  };
  for (const change of ["registered", "identity"]) page.on(change, show);
}
