// What the forms are filled with, so that the first click shows something.

const PLOT = [
  "They sat at the table and talked about the weather while the train went by.",
  "A neighbour came in, borrowed a ladder and left again without a word.",
  "The camera follows the postman through the village, from door to door.",
  "In the afternoon the two sisters walked to the lake and back.",
  "Somebody had left a window open, and the curtains moved a little.",
  "The shop on the corner sold bread, newspapers and string.",
  "Later the father read a letter aloud, and nobody asked who had sent it.",
];
const LONG_REVIEW =
  Array.from({ length: 9 }, () => PLOT.join(" ")).join(" ") +
  " And that is all of it. It was a terrible, boring, ugly film, and I hated every minute.";

const LIBRARY =
  "The old library of Aldern burned down in the winter of 1897, and with it some 40,000 books. Its librarian, Ida Brandt, had" +
  " carried the oldest manuscripts to her own house the week before, because the roof was leaking. A new library opened in 1903" +
  " on the other bank of the river. It was paid for by the owners of three paper mills, and its reading room holds 220 people." +
  " In 1911 a small museum was added, where the rescued manuscripts can be seen today. ☕ There is a café on the roof.";

const HALL =
  "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall." +
  " About forty traders will move to a tent on the station square by March. It rained on the day of the vote. Some of them have" +
  " sold fish there for three generations. The mayor wore a blue coat. The council expects the repair to cost four million euros" +
  " and to take two years. A group of architects wants to keep the iron columns, which were cast in 1884. Nobody spoke for a" +
  " while after the vote.";

const REPAIR =
  "Volunteers in the valley have repaired more than nine hundred household appliances since January, and kept about four tonnes" +
  " of metal and plastic out of the landfill. The workshop opens twice a week in a former school. Most visitors bring toasters," +
  " lamps and radios. Peter Lang, a retired electrician, teaches others how to find a broken fuse. Coffee is free. The council" +
  " will pay the rent for another three years, it decided on Monday. Similar workshops are planned in two neighbouring towns. The" +
  " weather on opening day was fine.";

export const EXAMPLES = {
  "text-classification": [
    { name: "Praise", text: "A warm, funny film that I would happily watch again." },
    { name: "Blame", text: "Boring, predictable and far too long; I walked out before the end." },
    { name: "Mixed", text: "The acting is superb, but the story goes nowhere and the ending insults its audience." },
    { name: "Too long for the model", text: LONG_REVIEW },
  ],
  "question-answering": [
    { name: "When?", question: "When did the new library open?", context: LIBRARY },
    { name: "Who?", question: "Who saved the manuscripts?", context: LIBRARY },
    { name: "Where?", question: "Where is the café?", context: LIBRARY },
    { name: "A long context", question: "How many people fit into the reading room?", context: `${PLOT.join(" ")} `.repeat(6) + LIBRARY },
  ],
  summarization: [
    { name: "Market hall", text: HALL },
    { name: "Repair workshop", text: REPAIR },
    { name: "A long document", text: [HALL, REPAIR, LIBRARY, ...PLOT].join("\n\n") },
  ],
};
