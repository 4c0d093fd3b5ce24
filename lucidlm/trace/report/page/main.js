// Everything is drawn again when a choice changes.
function choosers() {
    const layers = shown[state.word]?.layers.length || 0;
    fill(
        "layer",
        ...Array.from({ length: layers }, (_, at) =>
            make("option", { value: at, selected: at === state.layer }, String(at)),
        ),
    );
    $("layer").disabled = layers < 2;
    $("word-before").disabled = state.word <= 0;
    $("word-after").disabled = state.word >= shown.length - 1;
    $("layer-before").disabled = state.layer <= 0;
    $("layer-after").disabled = state.layer >= layers - 1;
}
function heading() {
    document.documentElement.lang = state.lang === "zh" ? "zh-Hans" : "en";
    for (const element of document.querySelectorAll("[data-say]"))
        element.textContent = data.texts[state.lang][element.dataset.say];
    $("language").textContent = state.lang === "zh" ? "English" : "中文";
    $("language").lang = state.lang === "zh" ? "en" : "zh-Hans";
    fill("name", say("title", { value: data.name }));
    const kinds = {
        decoder: say("kind_decoder"),
        encoder: say("kind_encoder"),
        "encoder-decoder": say("kind_both"),
        counts: say("kind_counts"),
    };
    fill(
        "facts",
        [
            kinds[data.kind],
            data.dtype,
            say("read", { n: data.length }),
            ...data.settings.map(([name, value]) => `${name} = ${value}`),
            ...data.edits.map((edit) => say("edit", { value: `${edit.kind} ${edit.address}` })),
        ].join(" · "),
    );
}
function draw() {
    heading();
    text();
    cards();
    if (shown.length) {
        choosers();
        stages();
        ladder();
    }
    picture();
}
function select(change) {
    Object.assign(state, change);
    const map = data.maps.shown.findIndex(
        (one) =>
            one.address.endsWith(`layers.${state.layer}.attention.pattern`) &&
            one.queries === "tokens",
    );
    if ("layer" in change && map >= 0) state.map = map;
    draw();
}
state.layer = Math.max(0, (shown[0]?.layers.length || 1) - 1);
state.word = data.kind === "encoder" ? 0 : Math.max(0, shown.length - 1);
$("language").addEventListener("click", () => select({ lang: state.lang === "zh" ? "en" : "zh" }));
$("theme").addEventListener("click", () => {
    const dark =
        getComputedStyle(document.documentElement).colorScheme === "dark" ||
        (document.documentElement.style.colorScheme === "" &&
            matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.style.colorScheme = dark ? "light" : "dark";
});
$("layer").addEventListener("change", (event) => select({ layer: Number(event.target.value) }));
$("map").addEventListener("change", (event) =>
    select({ map: Number(event.target.value), query: null, key: null }),
);
$("head").addEventListener("change", (event) => select({ head: Number(event.target.value) }));
$("word-before").addEventListener("click", () => select({ word: state.word - 1 }));
$("word-after").addEventListener("click", () => select({ word: state.word + 1 }));
$("layer-before").addEventListener("click", () => select({ layer: state.layer - 1 }));
$("layer-after").addEventListener("click", () => select({ layer: state.layer + 1 }));
addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details")) one.open = true;
});
select({ layer: state.layer });
