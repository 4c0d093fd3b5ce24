// The arithmetic behind a number.
function cardBody(address) {
    const card = data.cards[address];
    const link = (at) =>
        at in data.cards && at !== address
            ? make(
                  "button",
                  { class: "num address", type: "button", on: { click: () => openCard(at) } },
                  at,
              )
            : make("span", { class: "address" }, at);
    const lines = [paragraph(card.words[state.lang])];
    if (card.mathml) lines.push(Object.assign(make("div"), { innerHTML: card.mathml })); // drawn by the program from its own table
    if (card.expression) lines.push(make("p", {}, make("code", {}, card.expression)));
    if (card.terms.length) {
        const counts = (factor) => factor.address || factor.value !== 1; // a bare 1 changes nothing
        const rows = card.terms.map((term) =>
            make(
                "tr",
                {},
                make("td", { class: "n" }, format(term.value)),
                make(
                    "td",
                    {},
                    ...term.factors.filter(counts).flatMap((factor, at) => [
                        at ? " × " : "",
                        format(factor.value),
                        " ",
                        factor.address ? link(factor.address) : "",
                    ]),
                ),
            ),
        );
        if (card.rest.count)
            rows.push(
                make(
                    "tr",
                    {},
                    make("td", { class: "n" }, format(card.rest.sum)),
                    make("td", { class: "note" }, say("rest", { n: card.rest.count })),
                ),
            );
        lines.push(
            make(
                "div",
                { class: "scroll" },
                make(
                    "table",
                    {},
                    ...table(
                        [
                            [say("term"), "n"],
                            [say("made_of"), null],
                        ],
                        rows,
                    ),
                ),
            ),
        );
    }
    if (card.steps.length)
        lines.push(
            make(
                "p",
                { class: "note" },
                ...card.steps.flatMap((step, at) => [
                    at ? comma() : "",
                    `${step.name} = ${format(step.value)} `,
                    step.address ? link(step.address) : "",
                ]),
            ),
        );
    if (card.equation)
        lines.push(
            make(
                "p",
                {},
                say("total"),
                " ",
                make("strong", {}, format(card.total)),
                comma(),
                say("recorded"),
                " ",
                make("strong", {}, format(card.value)),
                comma(),
                say("difference"),
                " ",
                make("strong", { class: card.agrees ? "good" : "bad" }, format(card.difference)),
                " ",
                card.agrees ? `✓ ${say("agrees")}` : say("disagrees"),
            ),
        );
    lines.push(paragraph(card.seen ? say("seen") : say("again"), "note"));
    if (card.note[state.lang]) lines.push(paragraph(card.note[state.lang]));
    return lines;
}
function openCard(address) {
    $("card").replaceChildren(
        make(
            "button",
            { class: "close", type: "button", on: { click: () => $("card").close() } },
            say("close"),
        ),
        make("h3", { id: "card-title", class: "address" }, address),
        ...cardBody(address),
    );
    if (!$("card").open) $("card").showModal();
}
function cards() {
    $("cards-section").hidden = !data.asked.length;
    fill(
        "cards",
        ...data.asked.map((address) =>
            make(
                "li",
                {},
                make(
                    "button",
                    {
                        class: "num address",
                        type: "button",
                        on: { click: () => openCard(address) },
                    },
                    address,
                ),
                " = ",
                format(data.cards[address].value),
                make(
                    "div",
                    { class: "printed" },
                    make("h4", { class: "address" }, address),
                    ...cardBody(address),
                ),
            ),
        ),
    );
}
