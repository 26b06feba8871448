// The reference: openapi.json as a page, without scripts of other hosts.

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const nameOf = (reference) => reference.split("/").pop();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return element("a", { href: `#${nameOf(schema.$ref)}`, textContent: nameOf(schema.$ref) });
  if (schema.contentSchema) return element("span", {}, "JSON of ", typeOf(schema.contentSchema));
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return element("span", {}, ...choices.flatMap((one, i) => (i ? [" or ", typeOf(one)] : [typeOf(one)])));
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return element("span", {}, "list of ", typeOf(schema.items));
  if (schema.format === "binary" || schema.contentMediaType === "application/octet-stream") return "file";
  return schema.const !== undefined ? JSON.stringify(schema.const) : schema.type ?? "anything";
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => element(
    "tr", {},
    element("td", {}, element("code", { textContent: name }), schema.required?.includes(name) ? " (needed)" : ""),
    element("td", {}, typeOf(field)),
    element("td", {}, field.description ?? "", field.default != null ? ` Default ${JSON.stringify(field.default)}.` : ""),
  ));
  return element("table", {}, ...rows);
}

const described = (schema) => (schema.$ref || !schema.properties ? element("p", {}, typeOf(schema)) : fields(schema));

function endpoint(method, path, operation, schemas) {
  const section = element("section", {}, element("h3", {}, element("code", { textContent: `${method.toUpperCase()} ${path}` })));
  section.append(element("p", { textContent: operation.description ?? operation.summary }));
  for (const [kind, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    const form = kind === "multipart/form-data" && schema.$ref ? schemas[nameOf(schema.$ref)] : schema;
    section.append(element("p", {}, "Takes ", element("code", { textContent: kind }), ":"), described(form));
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    const [kind, content] = Object.entries(response.content ?? {})[0] ?? [];
    const line = element("div", {}, element("code", { textContent: status }), ` ${response.description} `);
    if (content?.schema) line.append(kind === "application/json" ? typeOf(content.schema) : kind);
    section.append(line);
  }
  return section;
}

const api = await (await fetch("openapi.json")).json();
const schemas = api.components?.schemas ?? {};
const example = "curl -F image=@photo.jpg -F 'prompt={\"text\": [\"coin\", \"key\"]}' "
  + `${location.origin}${new URL("v1/segment", location.href).pathname}`;
document.getElementById("reference").replaceChildren(
  element("p", { textContent: api.info.description.replaceAll("`", "") }),
  element("pre", { textContent: example }),
  element("h2", { textContent: "Endpoints" }),
  ...Object.entries(api.paths).flatMap(([path, operations]) => Object.entries(operations)
    .map(([method, operation]) => endpoint(method, path, operation, schemas))),
  element("h2", { textContent: "Types" }),
  ...Object.entries(schemas).filter(([name]) => !name.startsWith("Body_")).map(([name, schema]) => element(
    "section", { id: name }, element("h3", { textContent: name }),
    element("p", { textContent: schema.description ?? "" }), fields(schema),
  )),
);
