// A program outside Espalier's tree, built against the installed package.
#include <iostream>

#include "espalier/espalier.h"

int main() {
  const espalier::Shape shape{2, 3, 5};
  std::cout << "Espalier " << espalier::version() << ": a tensor of shape " << shape << " has "
            << espalier::checked_count(shape) << " elements\n";
  try {
    espalier::checked_axis("sum", 3, shape.rank());
  } catch (const espalier::IndexError& error) {
    std::cout << "caught: " << error.what() << "\n";
    return 0;
  }
  std::cerr << "an axis outside the shape was accepted\n";
  return 1;
}
