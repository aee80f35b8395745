import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Pagewire } from "pagewire";
import { PageProvider, useJob, usePage, useTree } from "pagewire/react";
import type { Api } from "./api";

const page = new Pagewire<Api>({ backoff: { base_ms: 50, cap_ms: 200 } });
page.connect().catch((error: unknown) => console.error(error));

function Status() {
  const { state, registered, resets } = usePage<Api>();
  return (
    <p>
      <span data-testid="state">{state}</span> <span data-testid="node">{registered?.node}</span>{" "}
      <span data-testid="resets">{resets}</span>
    </p>
  );
}

function Greeting() {
  const { page } = usePage<Api>();
  const [text, setText] = useState("");
  const greet = async (name: string): Promise<void> => {
    const greeting: string = await page.call("greet", { name }).catch((error: Error) => error.message);
    setText(greeting);
  };
  // @ts-expect-error the map of the handlers has no such name
  const wrong = () => page.call("great", { name: "ada" });
  return (
    <p>
      <button data-testid="greet" onClick={() => void greet("ada")} />
      <button data-testid="greet-none" onClick={() => void greet("")} />
      <button hidden onClick={wrong} />
      <span data-testid="greeting">{text}</span>
    </p>
  );
}

function Counter({ path }: { path: string }) {
  const { value = 0, ready, error, set } = useTree<number>("connection", path);
  const text = error ? error.code : ready ? `${path} is ${value}` : "…";
  return (
    <p>
      <button data-testid="raise" onClick={() => void set("", value + 1)} />
      <span data-testid="counter">{text}</span>
    </p>
  );
}

function Counting() {
  const job = useJob<{ counted: number }, { to: number }>("count");
  const outcome = job.result ? `counted ${job.result.counted}` : (job.error?.message ?? "");
  return (
    <p>
      <button data-testid="count" onClick={() => job.submit({ to: 20 })} />
      <button data-testid="count-long" onClick={() => job.submit({ to: 10_000 })} />
      <button data-testid="cancel" onClick={() => job.cancel()} />
      <span data-testid="job">{job.state}</span> <span data-testid="percent">{Math.round(job.progress * 100)} %</span>{" "}
      <span data-testid="outcome">{outcome}</span> <span data-testid="job-id">{job.id}</span>
    </p>
  );
}

function App() {
  const [path, setPath] = useState("first");
  return (
    <>
      <Status />
      <Greeting />
      {path === "" ? <p data-testid="counter">no counter</p> : <Counter path={path} />}
      <button data-testid="first" onClick={() => setPath("first")} />
      <button data-testid="second" onClick={() => setPath("second")} />
      <button data-testid="none" onClick={() => setPath("")} />
      <Counting />
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <PageProvider page={page}>
      <App />
    </PageProvider>
  </StrictMode>,
);
