"use strict";
// The data, the page's state, and how text and numbers are written.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = {
    lang: document.documentElement.lang.startsWith("zh") ? "zh" : "en",
    word: 0,
    layer: 0,
    map: 0,
    head: 0,
    query: null,
    key: null,
};
const shown = data.words.shown;
const bytes = new Map(); // of the maps, unpacked

const say = (name, fields = {}) =>
    data.texts[state.lang][name].replace(/\{(\w+)\}/g, (all, field) =>
        field in fields ? fields[field] : all,
    );
const comma = () => (state.lang === "zh" ? "，" : ", ");
function make(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    const { style = {}, on = {}, ...attributes } = options;
    for (const [name, value] of Object.entries(attributes))
        if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
    for (const [name, value] of Object.entries(on)) made.addEventListener(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
}
const fill = (id, ...children) =>
    $(id).replaceChildren(...children.filter((child) => child !== null));
const paragraph = (said, kind = null) => make("p", { class: kind }, said);
const table = (heads, rows) => [
    make(
        "thead",
        {},
        make(
            "tr",
            {},
            ...heads.map(([head, kind]) => make("th", { class: kind, scope: "col" }, head)),
        ),
    ),
    make("tbody", {}, ...rows),
];
function format(value) {
    if (value === null || value === undefined) return "–";
    if (typeof value === "boolean") return value ? "✓" : "✗";
    if (typeof value === "string") return value.replace("inf", "∞").replace("-", "−");
    if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value).replace("-", "−");
    const size = Math.abs(value);
    const written =
        size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : value.toPrecision(4);
    return written.replaceAll("-", "−");
}
const percent = (share) =>
    share === null || share === undefined
        ? "–"
        : (share >= 0.0095
              ? (100 * share).toFixed(1)
              : Number((100 * share).toPrecision(2)).toString()) + " %";
// A token's text with what cannot be seen made visible.
const visible = (label) =>
    label
        .replaceAll("\n", "↵")
        .replaceAll("\t", "⇥")
        .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length))
        .replace(/\p{C}/gu, (one) => `\\u{${one.codePointAt(0).toString(16).toUpperCase()}}`) ||
    "∅";
const word = (label, chosen = false) =>
    make("span", { class: chosen ? "word chosen" : "word" }, visible(label));
// A number; where its arithmetic is on the page, a button that opens it.
function number(value, address = "", style = {}) {
    if (address in data.cards)
        return make(
            "button",
            {
                class: "num",
                type: "button",
                title: address,
                style,
                on: { click: () => openCard(address) },
            },
            format(value),
        );
    return make("span", { class: "num", title: address || null, style }, format(value));
}
const cell = (site, ...at) =>
    `${site}[${at.map(([axis, index]) => `${axis}=${index}`).join(", ")}]`;
function vector(found, position) {
    if (!found) return paragraph(say("not_kept"), "note");
    const most = Math.max(
        1e-30,
        ...found.first.map((value) => (typeof value === "number" ? Math.abs(value) : 0)),
    );
    const tint = (value) => ({
        "--tint": typeof value === "number" ? Math.abs(value) / most : 0,
        "--sign": value < 0 ? "var(--minus)" : "var(--plus)",
    });
    return make(
        "div",
        { class: "vector" },
        ...found.first.map((value, dim) =>
            number(value, cell(found.address, ["position", position], ["dim", dim]), tint(value)),
        ),
        make(
            "span",
            { class: "note" },
            say("vector", { n: found.size, value: format(found.length) }),
        ),
    );
}
const named = (title, found, position) => [
    make("h4", {}, title, " ", make("span", { class: "address note" }, found ? found.address : "")),
    vector(found, position),
];
const bar = (share) =>
    make(
        "div",
        { class: "bar", style: { "--share": `${100 * Math.min(1, share || 0)}%` } },
        make("i"),
    );
// One line for each [label, share, ...what stands behind].
function bars(lines) {
    return make(
        "div",
        { class: "bars" },
        ...lines.flatMap(([label, share, ...behind]) => [
            label,
            bar(share),
            make("span", {}, ...behind),
        ]),
    );
}
