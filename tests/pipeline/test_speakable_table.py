"""Text is read as people of a region say it: money, numbers, dates, names, signs and formulas, written in any way."""

import pytest

from hfpipe.pipeline.text_speakable import speakable

MONEY = [
    ("es", "Cuesta $1,500.50 MXN", "Cuesta mil quinientos pesos con cincuenta centavos"),
    ("es-MX", "Cuesta $1,500 o $1.500", "Cuesta mil quinientos pesos o mil quinientos pesos"),
    ("es-CO", "Cuesta $1.500 o $1,500", "Cuesta mil quinientos pesos o mil quinientos pesos"),
    ("es-ES", "Cuesta 12.500 € o 12,500 €", "Cuesta doce mil quinientos euros o doce mil quinientos euros"),
    ("es", "Pague $1,850.75 pesos", "Pague mil ochocientos cincuenta pesos con setenta y cinco centavos"),
    ("es", "$1,850.75 pesos mexicanos", "mil ochocientos cincuenta pesos mexicanos con setenta y cinco centavos"),
    ("es", "$500 M.N. y MXN $500 y $500 mxn", "quinientos pesos y quinientos pesos y quinientos pesos"),
    ("es", "USD 20, US $5, $5 USD, $5 dólares", "veinte dólares, cinco dólares, cinco dólares, cinco dólares"),
    ("es", "Son $5 dólares, no $5 pesos.", "Son cinco dólares, no cinco pesos."),
    ("es", "El dólar está a $20 pesos y vale $100", "El dólar está a veinte pesos y vale cien pesos"),
    ("es", "₡500, R$ 5, 5 ¢, Gs. 1000, Bs. 30",
     "quinientos colones, cinco reales, cinco centavos, mil guaraníes, treinta bolivianos"),
    ("es", "₲ 5, Q50, L 100.00, B/. 5, C$ 20, RD$ 1, S/ 3,50, AR$ 10, COL$ 2",
     "cinco guaraníes, cincuenta quetzales, cien lempiras, cinco balboas, veinte córdobas, un peso, "
     "tres soles con cincuenta céntimos, diez pesos, dos pesos"),
    ("es", "₹5, ₩1000, ₿ 2, ₽ 21, £21", "cinco rupias, mil wons, dos bitcoines, veintiún rublos, veintiuna libras"),
    ("es", "CHF 20, 5 CAD, 21 SEK", "veinte francos suizos, cinco dólares canadienses, veintiuna coronas suecas"),
    ("es", "5 €/kg, $5/h, $5/hora, 3 €/100 g, 12 $/mes/usuario, $1,200/m²",
     "cinco euros por kilo, cinco dólares por hora, cinco dólares por hora, tres euros por cien gramos, "
     "doce dólares por mes por usuario, mil doscientos dólares por metro cuadrado"),
    ("es", "$5–10, $5-$10, 5-10 €, -$5, $-5, −5 €",
     "cinco a diez dólares, cinco a diez dólares, cinco a diez euros, menos cinco dólares, menos cinco dólares, "
     "menos cinco euros"),
    ("es", "1,5 M€, $10 mil, $2M, 500K €, US$ 2,5 mil millones, 1 M€",
     "uno coma cinco millones de euros, diez mil dólares, dos millones de dólares, quinientos mil euros, "
     "dos coma cinco mil millones de dólares, un millón de euros"),
    ("es", "Mi peso es 70 kg y pagué $5.", "Mi peso es setenta kilogramos y pagué cinco dólares."),
    ("es", "5€50, $ 5.-, $20 US, 50 cts, $us 5", "cinco euros con cincuenta céntimos, cinco dólares, veinte dólares, "
     "cincuenta centavos, cinco dólares"),
    ("es", "2 mdp, 3 mdd", "dos millones de pesos, tres millones de dólares"),
    ("es", "$2 millones de pesos, $3 millones de dólares", "dos millones de pesos, tres millones de dólares"),
    ("es", "TOP 10, talla L 5, 5 Q, S.A. de C.V.", "TOP diez, talla L cinco, cinco Q, S.A. de C.V."),
    ("es", "TRY again, 3 libras de pan, 2 reales", "TRY again, tres libras de pan, dos reales"),
    ("es-VE", "Bs. 30 y Bs 1.500,50", "treinta bolívares y mil quinientos bolívares con cincuenta céntimos"),
    ("es-GT", "Q5 y Q 100.50", "cinco quetzales y cien quetzales con cincuenta centavos"),
    ("es-HN", "L 500 y L. 20", "quinientos lempiras y veinte lempiras"),
    ("es-CR", "¢500 y ₡1 500", "quinientos colones y mil quinientos colones"),
    ("es-DO", "RD$ 500, $500 y US$5", "quinientos pesos, quinientos pesos y cinco dólares"),
    ("es-MX", "Son $5 USD y US$5 y $5 dólares", "Son cinco dólares y cinco dólares y cinco dólares"),
    ("en", "$5 CAD, £1.01, 5¢, $5/h, $5-10, $3bn, -$5, R$ 5",
     "five Canadian dollars, one pound and one penny, five cents, five dollars per hour, five to ten dollars, "
     "three billion dollars, minus five dollars, five reals"),
    ("en-MX", "$5", "five pesos"),
]  # fmt: skip

NUMBERS = [
    ("es", "871.479.689 y 21.000 y 31.001.000", "ochocientos setenta y un millones cuatrocientos setenta y nueve mil "
     "seiscientos ochenta y nueve y veintiún mil y treinta y un millones mil"),
    ("es", "750.200.000 libras", "setecientos cincuenta millones doscientas mil libras"),
    ("es", "12,500 y 12.500 y 1.75", "doce mil quinientos y doce mil quinientos y uno punto setenta y cinco"),
    ("es-MX", "12,500 y 12.500 y 1.75",
     "doce mil quinientos y doce punto cinco cero cero y uno punto setenta y cinco"),
    ("es-ES", "12,500 y 12.500 y 1,75", "doce coma cinco cero cero y doce mil quinientos y uno coma setenta y cinco"),
    ("es-ES", "1.234.567,89 y 1,234,567.89",
     "un millón doscientos treinta y cuatro mil quinientos sesenta y siete coma "
     "ochenta y nueve y un millón doscientos treinta y cuatro mil quinientos sesenta y siete punto ochenta y nueve"),
    ("en-US", "12,500 and 12.500", "twelve thousand five hundred and twelve point five zero zero"),
    ("es", "10k, 2M, 1e6, 3.5e-4, 2.5M de usuarios",
     "diez mil, dos millones, un millón, tres punto cinco por diez a la menos cuatro, "
     "dos punto cinco millones de usuarios"),
    ("es", "1M, 10K, 4K, 5G, 1.5k seguidores, 2M usuarios",
     "un millón, diez mil, cuatro K, cinco G, uno punto cinco mil seguidores, dos millones de usuarios"),
    ("es", "6.022e23 y 6,022×10²³",
     "seis punto cero veintidós por diez a la veintitrés y seis coma cero veintidós por diez a la veintitrés"),
    ("es", "3×2 m, 3x2, 1920x1080 px, 2x, 10x más, x2, 3 x 4 x 5 cm, 21x",
     "tres por dos metros, tres por dos, mil novecientos veinte por mil ochenta píxeles, dos veces, diez veces más, "
     "por dos, tres por cuatro por cinco centímetros, veintiuna veces"),
    ("en", "3×2 m, 3x2, 2x", "three times two meters, three by two, two times"),
    ("es", "1 1/2 tazas, 2½, ⅔, 2 1/2 kg, .5", "una y media tazas, dos y medio, dos tercios, dos y medio kilogramos, "
     "cero punto cinco"),
    ("en", "1 1/2 cups", "one and a half cups"),
    ("es", "1'000 y 1'500,000.50", "mil y un millón quinientos mil punto cincuenta"),
    ("es", "covid-19, F-16, 16:9, escala 1:100, 10 – 12",
     "covid diecinueve, F dieciséis, dieciséis a nueve, escala uno a cien, diez a doce"),
    ("es", "21 mujeres, 21 camiones, 21 razones, 200 veces, 1 ley",
     "veintiuna mujeres, veintiún camiones, veintiuna razones, doscientas veces, una ley"),
    # ordinals and degrees
    ("es", "30ºC y 77ºF, 30 ºC, 5℃, -3 °C",
     "treinta grados Celsius y setenta y siete grados Fahrenheit, treinta grados Celsius, cinco grados Celsius, "
     "menos tres grados Celsius"),
    ("es", "hace 30º, un giro de 180º, 45°, 19°25′42″ N, 30° S",
     "hace treinta grados, un giro de ciento ochenta grados, cuarenta y cinco grados, "
     "diecinueve grados veinticinco minutos cuarenta y dos segundos norte, treinta grados sur"),
    ("es", "1° de mayo, 1º de mayo, 1ro de mayo", "primero de mayo, primero de mayo, primero de mayo"),
    ("es", "1º piso, 1° piso, 3° lugar, 1.º piso, 3.er puesto, 1er. lugar, 2° de primaria, 3° B",
     "primer piso, primer piso, tercer lugar, primer piso, tercer puesto, primer lugar, segundo de primaria, "
     "tercero B"),
    ("es", "1ª, 2.ª fila, 1.os, 2.as, 4to, 5ta, 12vo", "primera, segunda fila, primeros, segundas, cuarto, quinta, "
     "duodécimo"),
    ("es", "el 13.º, el 18.º, el 21.º aniversario, el 100.º y la 101.ª",
     "el decimotercero, el decimoctavo, el vigésimo primer aniversario, el centésimo y la centésima primera"),
    ("en", "30ºC, 77°F, the 1st floor, 30° N",
     "thirty degrees Celsius, seventy-seven degrees Fahrenheit, the first floor, thirty degrees north"),
    ("es", "3° y 4° grado, 1.°, 2°B, 25°, 5°C", "tercero y cuarto grado, primero, segundo B, veinticinco grados, "
     "cinco grados Celsius"),
    # telephones and identity numbers
    ("es", "Tel.: 555-1234", "teléfono: cinco cinco cinco, uno dos tres cuatro"),
    ("es", "12.345.678-9", "uno dos, tres cuatro cinco, seis siete ocho, nueve"),
    ("es", "RUT 12.345.678-K, DNI 12345678Z", "RUT uno dos, tres cuatro cinco, seis siete ocho, K, "
     "DNI uno dos tres cuatro cinco seis siete ocho, Z"),
    ("es", "NIT 900.123.456-7 y CUIT 20-12345678-9", "NIT nueve cero cero, uno dos tres, cuatro cinco seis, siete y "
     "CUIT dos cero, uno dos tres cuatro cinco seis siete ocho, nueve"),
    ("es", "(55) 1234-5678, cel. 5555-1234, +54 9 11 1234-5678",
     "cinco cinco, uno dos tres cuatro, cinco seis siete ocho, celular cinco cinco cinco cinco, uno dos tres cuatro, "
     "más cinco cuatro, nueve, uno uno, uno dos tres cuatro, cinco seis siete ocho"),
    ("es", "(0212) 555-1234, 1-800-123-4567, 555.123.4567",
     "cero dos uno dos, cinco cinco cinco, uno dos tres cuatro, uno, ocho cero cero, uno dos tres, "
     "cuatro cinco seis siete, cinco cinco cinco, uno dos tres, cuatro cinco seis siete"),
    ("es", "De 500-1000 y 1990-1995; llama al 911 y marque 1",
     "De quinientos a mil y mil novecientos noventa a mil novecientos noventa y cinco; "
     "llama al novecientos once y marque uno"),
    ("en", "Call 555-1234", "Call five five five, one two three four"),
]  # fmt: skip

DATES = [
    ("es", "1990s, los 90s, años 90, '90s, los 90's, los 2000s, 90 s",
     "los noventa, los noventa, años noventa, los noventa, los noventa, los dos mil, noventa segundos"),
    ("es", "5-mar-1990, 5/mar/1990, 05-ene-24, 12 oct. 1492, 5 de mar. de 2020",
     "cinco de marzo de mil novecientos noventa, cinco de marzo de mil novecientos noventa, "
     "cinco de enero de dos mil veinticuatro, doce de octubre de mil cuatrocientos noventa y dos, "
     "cinco de marzo de dos mil veinte"),
    ("es", "31/12, 24/11, el 12/10, del 5/3 al 8/3, 01/02",
     "treinta y uno de diciembre, veinticuatro de noviembre, el doce de octubre, "
     "del cinco de marzo al ocho de marzo, primero de febrero"),
    ("es", "1/2 taza, 3/4, 9/10, 24/7", "media taza, tres cuartos, nueve décimos, veinticuatro horas al día"),
    ("es", "31/12/99, 3/5/24, 2024/05/01, 2024-05-01T12:30",
     "treinta y uno de diciembre de mil novecientos noventa y nueve, tres de mayo de dos mil veinticuatro, "
     "primero de mayo de dos mil veinticuatro, primero de mayo de dos mil veinticuatro doce y media"),
    ("es-MX", "05/03/2024", "cinco de marzo de dos mil veinticuatro"),
    ("es-PR", "05/03/2024", "tres de mayo de dos mil veinticuatro"),
    ("en-US", "05/03/2024", "May third, twenty twenty-four"),
    ("en-GB", "05/03/2024", "the fifth of March, twenty twenty-four"),
    ("en", "5-Mar-1990, Mar 5, 1990, 12/31", "March fifth, nineteen ninety, March fifth, nineteen ninety, "
     "December thirty-first"),
    ("en", "the 1990s, '90s, 1900s, 2000s", "the nineteen nineties, nineties, nineteen hundreds, two thousands"),
    ("es", "2h30, 14h30, 2h 30min, 15h, 00:00, 00:30, 12:00",
     "dos horas treinta, catorce horas treinta, dos horas treinta minutos, quince horas, cero horas, "
     "cero treinta, doce"),
    ("es", "a las 14:30 h, 3pm, 12:30 a.m., 12 p. m., 13:05, de 9 a 14 h, 9:00-14:00",
     "a las catorce treinta, tres de la tarde, doce y media de la noche, doce del mediodía, trece cero cinco, "
     "de nueve a catorce horas, nueve a catorce horas"),
    ("es", "1:02:03", "una hora dos minutos tres segundos"),
    ("en", "2h30, 00:00, 12:00", "two hours thirty, midnight, twelve o'clock"),
]  # fmt: skip

ROMAN = [
    ("es", "Juan Pablo II, Felipe VI, Alfonso X, Alfonso XIII, Isabel II, Pío IX, Luis XIV.",
     "Juan Pablo segundo, Felipe sexto, Alfonso décimo, Alfonso trece, Isabel segunda, Pío noveno, Luis catorce."),
    ("es", "Carlos I de España y V de Alemania", "Carlos primero de España y quinto de Alemania"),
    ("es", "s. XIX, ss. XVI-XVII, siglos XVI y XVII, s. I d. C., siglo V a. C. y",
     "siglo diecinueve, siglos dieciséis a diecisiete, siglos dieciséis y diecisiete, siglo uno después de Cristo, "
     "siglo cinco antes de Cristo y"),
    ("es", "MCMXCIV, capítulo IV, Rocky IV, tomo III", "mil novecientos noventa y cuatro, capítulo cuatro, "
     "Rocky cuatro, tomo tres"),
    ("es", "la II Guerra Mundial, I Guerra Mundial, el XIX Congreso, la XXI edición, el V Centenario",
     "la segunda Guerra Mundial, primera Guerra Mundial, el decimonoveno Congreso, la vigésima primera edición, "
     "el quinto Centenario"),
    ("es", "vitamina C, plan B, Windows XP, Malcolm X, Generación X, rayos X, XL, CD, MIX, María V. López",
     "vitamina C, plan B, Windows XP, Malcolm X, Generación X, rayos X, XL, CD, MIX, María V. López"),
    ("en", "Elizabeth II, Henry VIII, World War II, Chapter IV, MCMXCIV, the XIX century",
     "Elizabeth the second, Henry the eighth, World War two, Chapter four, nineteen ninety-four, "
     "the nineteenth century"),
    ("en", "I think Charles I think, vitamin C, Malcolm X", "I think Charles I think, vitamin C, Malcolm X"),
]  # fmt: skip

ABBREVIATIONS = [
    ("es", "Uds., Ud., Vds., Fig. 3, figs. 3 y 4", "ustedes, usted, ustedes, figura tres, figuras tres y cuatro"),
    ("es", "nro. 5, No. 8, nº5, N° 5, Nos. 3 y 4",
     "número cinco, número ocho, número cinco, número cinco, números tres y "
     "cuatro"),
    ("es", "inc. 2, inc. b), Apple Inc. sube", "inciso dos, inciso b), Apple Inc. sube"),
    ("es", "Km 23, Km. 23, km 5, 5 km 20 m",
     "kilómetro veintitrés, kilómetro veintitrés, kilómetro cinco, cinco kilómetros veinte metros"),
    ("es", "págs. 3-5, pág. 4, p. 5, pp. 3–5, vol. 2, art. 5",
     "páginas tres a cinco, página cuatro, página cinco, páginas tres a cinco, volumen dos, artículo cinco"),
    ("es", "D. Juan, Dña. Ana, C/ Mayor 5, c/u, s/n, Av. Juárez",
     "don Juan, doña Ana, calle Mayor cinco, cada uno, sin número, avenida Juárez"),
    ("es", "dijo que no. 8 más", "dijo que no. ocho más"),
    ("en", "Fig. 3, No. 8, p. 5, pp. 3-5, and/or",
     "figure three, number eight, page five, pages three to five, and or"),
]  # fmt: skip

SIGNS = [
    ("es", "CO₂, x₁, H₂O, CO2, Fe₂O₃, Ca²⁺, Na⁺",
     "C O dos, x uno, H dos O, C O dos, Fe dos O tres, Ca dos más, Na más"),
    ("es", "x², m³, 10⁻³, 3×10⁸, xⁿ, 2^10, x^2, x^-1",
     "x al cuadrado, m al cubo, diez a la menos tres, tres por diez a la ocho, x a la n, dos a la diez, "
     "x al cuadrado, "
     "x a la menos uno"),
    ("es", "C#, F#, C++, .NET, A/B, él/ella, y/o",
     "C sharp, F sharp, C más más, punto NET, A barra B, él barra ella, y o"),
    ("es", "km/h, m/s, 120 hab./km², 8 l/100 km, 100 Mbps",
     "kilómetros por hora, metros por segundo, ciento veinte habitantes por kilómetro cuadrado, "
     "ocho litros por cien kilómetros, cien megabits por segundo"),
    ("es", "a → b, A ∩ B, x ≠ y, 3 >= 2, a != b, -> fin",
     "a lleva a b, A intersección B, x distinto de y, tres mayor o igual que dos, a distinto de b, lleva a fin"),
    ("es", "5>3, x<y, a=b, A+, ~5, a~b, §5", "cinco mayor que tres, x menor que y, a igual a b, A más, "
     "aproximadamente cinco, a virgulilla b, sección cinco"),
    ("es", "α y β, Δt, 5 Ω", "alfa y beta, delta t, cinco ohmios"),
    ("es", "=====", ""),
    ("en", "CO₂, x₁, 10⁻³, C#, A/B, km/h, a → b",
     "C O two, x one, ten to the power of minus three, C sharp, A slash B, "
     "kilometers per hour, a to b"),
]  # fmt: skip

MATH = [
    ("es", r"\(E = mc^2\)", "E igual a m c al cuadrado"),
    ("es", r"\frac{a}{b}", "a sobre b"),
    ("es", r"\sqrt{2} y \sqrt[3]{x} y \sqrt[n]{x}", "raíz de dos y raíz cúbica de x y raíz n de x"),
    ("es", r"El área es $A = \pi r^2$.", "El área es A igual a pi r al cuadrado."),
    ("es", r"$$x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$",
     "x igual a menos b más o menos raíz de b al cuadrado menos cuatro a c sobre dos a."),
    ("es", r"\[ \sum_{i=1}^{n} x_i^2 \leq \alpha \times 10^{-3} \]",
     "suma desde i igual a uno hasta n de x i al cuadrado menor o igual que alfa por diez a la menos tres."),
    ("es", r"$\lim_{x \to 0} \frac{\sin x}{x} = 1$", "límite cuando x tiende a cero de seno de x sobre x igual a uno"),
    ("es", r"$\int_0^1 f(x)\,dx$ y $\text{área total} = 5$",
     "integral desde cero hasta uno de f de x d x y área total igual a cinco"),
    ("es", r"$90^\circ$, $\sin^2 x$, $|x|$, $\vec{v}$, $\log_2 8$, $n!$",
     "noventa grados, seno al cuadrado de x, valor absoluto de x, vector v, logaritmo en base dos de ocho, "
     "n factorial"),
    ("es", "Cuesta $5 y $10, o US$5 y $6.",
     "Cuesta cinco dólares y diez dólares, o cinco dólares y seis dólares."),
    ("es", "`$x$` y `\\frac`", "dólar x dólar y frac"),
    ("en", r"\(E = mc^2\), \frac{a}{b}, \sqrt{2}", "E equals m c squared, a over b, square root of two"),
    ("es", "Mira:\n```python\nx = 1\n```\nY ya.", "Mira: bloque de código, Y ya."),
    ("es", "```latex\nE = mc^2\n```", "E igual a m c al cuadrado"),
    ("es", "Usa `x = 5` y `ls`", "Usa x igual a cinco y ls"),
    ("en", "```\nx = 1\n```", "code block"),
    ("fr", "```\nx = 1\n```", "bloc de code"),
    ("de", "```\nx = 1\n```", "x = 1"),
]  # fmt: skip

LOOSELY = [  # typed as people do
    ("es", "-10º C, 37,5º, 37.5 ºC, 20 º C, 2º C",
     "menos diez grados Celsius, treinta y siete coma cinco grados, treinta y siete punto cinco grados Celsius, "
     "veinte grados Celsius, segundo C"),
    ("es", "a*b, a * b, 2*x, uno * dos, *eso*, una **pala**bra",
     "a por b, a por b, dos por x, uno por dos, eso, una palabra"),
    ("es", "*a*b*, *a* y *b*, **x*y**", "a por b, a y b, x por y"),
    ("es", "∂f/∂x, (a+b)/2, x/(y-1), niño(s)/a",
     "derivada parcial de f respecto a x, (a más b) entre dos, x entre (y menos uno), niño(s) a"),
    ("es", "n-1, F-16, covid-19, 2-x", "n menos uno, F dieciséis, covid diecinueve, dos menos x"),
    ("es", "|x|, |-5| y | a | b |", "valor absoluto de x, valor absoluto de menos cinco y, a, b"),
    ("es", "5 kΩ, 3 MΩ, 4 GiB, 300 K, 10K",
     "cinco kiloohmios, tres megaohmios, cuatro gibibytes, trescientos kelvins, diez mil"),
    ("es-AR", "24 hs, 18:30 hs, 18.30hs, 5 mts, 3 kms, 2 lts, 200 grs",
     "veinticuatro horas, dieciocho treinta, dieciocho treinta, cinco metros, tres kilómetros, dos litros, "
     "doscientos gramos"),
    ("es", "6′2″, 6'2\", 55″, 55\" y el gol del 45′",
     "seis pies dos pulgadas, seis pies dos pulgadas, cincuenta y cinco pulgadas, cincuenta y cinco pulgadas y "
     "el gol del cuarenta y cinco minutos"),
    ("es", "Dijo \"gané 12\" y 'perdí 3'.", "Dijo \"gané doce \" y 'perdí tres '."),
    ("es", "ene. 2024, 5 de mar. y el 3 de dic. de 2020",
     "enero dos mil veinticuatro, cinco de marzo y el tres de diciembre de dos mil veinte"),
    ("es", "II Guerra Mundial", "segunda Guerra Mundial"),
    ("es", "IV Cumbre de las Américas", "cuarta Cumbre de las Américas"),
    ("es", "Cra. 7, Col. Roma, num. 3, la admón., Ctra. Nacional, izda., # 5",
     "carrera siete, colonia Roma, número tres, la administración, carretera Nacional, izquierda, número cinco"),
    ("es", "NIF B12345678, RFC ABCD123456XYZ",
     "NIF B, uno dos tres cuatro cinco seis siete ocho, RFC A B C D, uno dos tres cuatro cinco seis, X Y Z"),
    ("es", "ISBN 978-3-16-148410-0",
     "ISBN nueve siete ocho, tres, uno seis, uno cuatro ocho cuatro uno cero, cero"),
    ("es", "IBAN ES91 2100 0418", "IBAN E S, nueve uno, dos uno cero cero, cero cuatro uno ocho"),
    ("es", "a las 7.30 y hasta las 14.05; son las 7.30% de las 3.50 veces",
     "a las siete y media y hasta las catorce cero cinco; son las siete punto treinta por ciento de las tres y "
     "cincuenta veces"),
    ("es", "3 uds., 2 €/ud. y Uds.; Q1 y Q50; Ríos Nte., No. ext. 5, No. int. 2",
     "tres unidades, dos euros por unidad. y ustedes; Q uno y cincuenta quetzales; Ríos norte, número exterior cinco, "
     "número interior dos"),
    ("en", "Jan. 5, Sept. 11, 3 p.m. It, St. John, Main St., Mt. Everest, Q1 2024",
     "January fifth, September eleventh, three p.m. It, Saint John, Main Street, Mount Everest, "
     "Q one twenty twenty-four"),
    ("en", "It is 3 p.m.", "It is three p.m."),
    ("en", "6'2\", 55\", 300 K, (a+b)/2, n-1, a*b",
     "six feet two inches, fifty-five inches, three hundred kelvins, (a plus b) over two, n minus one, a times b"),
]  # fmt: skip


@pytest.mark.parametrize(
    "language, written, said",
    MONEY + NUMBERS + DATES + ROMAN + ABBREVIATIONS + SIGNS + MATH + LOOSELY,
    ids=lambda part: part[:40],
)
def test_the_table(language, written, said):
    assert speakable(written, language) == said


PESOS = "MX AR CL CO UY DO CU".split()
DOLLARS = "US EC SV PR ES PE CR GT HN NI PA PY BO VE 419".split()


@pytest.mark.parametrize(
    "tag, said",
    [(f"es-{region}", "cinco pesos") for region in PESOS]
    + [(f"es-{region}", "cinco dólares") for region in DOLLARS]
    + [("es", "cinco dólares"), ("es_mx", "cinco pesos"), ("ES-mx", "cinco pesos"), ("es-Latn-MX", "cinco pesos"),
       ("en-US", "five dollars"), ("en-CA", "five dollars"), ("en_AU", "five dollars"), ("en-419", "five dollars")],
)  # fmt: skip
def test_a_bare_dollar_sign_is_the_regions(tag, said):
    assert speakable("$5", tag) == said


def test_a_region_changes_nothing_for_a_language_that_the_voice_reads():
    assert speakable("**Custa** R$ 5 😊", "pt-BR") == speakable("**Custa** R$ 5 😊", "pt") == "Custa R$ 5"
