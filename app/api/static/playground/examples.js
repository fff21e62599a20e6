// Texts that the examples of several tasks are made of.

export const PLOT = [
  "They sat at the table and talked about the weather while the train went by.",
  "A neighbour came in, borrowed a ladder and left again without a word.",
  "The camera follows the postman through the village, from door to door.",
  "In the afternoon the two sisters walked to the lake and back.",
  "Somebody had left a window open, and the curtains moved a little.",
  "The shop on the corner sold bread, newspapers and string.",
  "Later the father read a letter aloud, and nobody asked who had sent it.",
];
export const LIBRARY =
  "The old library of Aldern burned down in the winter of 1897, and with it some 40,000 books. Its librarian, Ida Brandt, had" +
  " carried the oldest manuscripts to her own house the week before, because the roof was leaking. A new library opened in 1903" +
  " on the other bank of the river. It was paid for by the owners of three paper mills, and its reading room holds 220 people." +
  " In 1911 a small museum was added, where the rescued manuscripts can be seen today. ☕ There is a café on the roof.";
