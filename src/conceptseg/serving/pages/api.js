// The service, seen from the page: JSON in and out, and its own words when something is wrong.

const KEY = "conceptseg-api-key";

export class ServiceError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not answer. Is it still running?");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const again = response.headers.get("Retry-After");
    const detail = problem.detail || `The service answered ${response.status}.`;
    throw new ServiceError(response.status, again ? `${detail} (in ${again} s)` : detail);
  }
  return response;
}

export function asJson(content) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) };
}

export async function describeModel() {
  const models = (await (await call("v1/models")).json()).data;
  return Object.values(models)[0];
}

export async function addImage(file, signal) {
  const form = new FormData();
  form.append("image", file);
  return (await call("v1/images", { method: "POST", body: form, signal })).json();
}

export async function segment(imageId, prompt, signal) {
  return (await call(`v1/images/${imageId}/segment`, { ...asJson(prompt), signal })).json();
}

export async function addExemplar(imageId, boxes, labels) {
  const form = new FormData();
  form.append("image_id", imageId);
  form.append("prompt", JSON.stringify({ boxes, labels }));
  return (await call("v1/exemplars", { method: "POST", body: form })).json();
}

export async function exportAs(wanted) {
  return (await call("v1/export", asJson(wanted))).blob();
}
